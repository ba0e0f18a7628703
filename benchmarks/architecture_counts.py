"""Check the counter against torchvision's published ``num_params`` and ``_ops`` for all its classification models.

    python benchmarks/architecture_counts.py [--match TEXT] [--json FILE]

Prints one line a network and input size: counted and published parameters and giga-multiply-accumulates, and how far
each is off. Networks are exported without their weights.
"""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from pathlib import Path
from typing import Any

import torchvision
from rich.progress import track

from workers.engine.graph.export import export_structure

DEVIATIONS = Path(__file__).parent / "architecture" / "deviations.toml"
"""Every deviation from what torchvision publishes, exactly, with its reason."""

CLOSE_GMACS = 0.0006
"""What torchvision's rounding to three digits, and a little more, may hide."""


def published(match: str) -> list[dict[str, Any]]:
    """Each distinct (network, input size, published numbers) of torchvision's classification weights."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name in torchvision.models.list_models(module=torchvision.models):
        if match not in name:
            continue
        for weights in torchvision.models.get_model_weights(name):
            size = weights.transforms.keywords["crop_size"]
            row = {
                "name": name,
                "size": size,
                "parameters": weights.meta["num_params"],
                "gmacs": weights.meta["_ops"],
            }
            rows.setdefault(tuple(row.values()), row)
    return list(rows.values())


def count(name: str, size: int) -> dict[str, int]:
    """Counts of one network at one input size, per picture."""
    options: dict[str, Any] = {"init_weights": False} if name in {"googlenet", "inception_v3"} else {}
    if name.startswith("vit_"):
        options["image_size"] = size

    def build() -> Any:
        return torchvision.models.get_model(name, weights=None, **options)

    return export_structure(build, (1, 3, size, size)).counts


def main() -> None:
    """Count every network and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--match", default="", help="only networks whose name contains this")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    rows = published(options.match)
    deviations = tomllib.loads(DEVIATIONS.read_text(encoding="utf-8"))
    agree = explained = 0
    for row in track(rows, description="counting"):
        started = time.monotonic()
        try:
            counts = count(row["name"], row["size"])
        except Exception as error:  # noqa: BLE001  (one network's failure is a row of the table)
            row["error"] = str(error)
            print(f"{row['name']:24} {row['size']:4} failed: {row['error'][:120]}", flush=True)
            continue
        row["parameters_off"] = counts["parameters"] - row["parameters"]
        row["gmacs_off"] = round(counts["macs"] / 1e9 - row["gmacs"], 4)
        known = deviations.get(row["name"], {"parameters": 0, "gmacs": 0.0, "why": ""})
        near = abs(row["gmacs_off"] - known["gmacs"]) <= CLOSE_GMACS
        met = row["parameters_off"] == known["parameters"] and near
        agree += met and not known["why"]
        explained += met and bool(known["why"])
        verdict = "NOT EXPLAINED" if not met else known["why"] or "equal"
        print(
            f"{row['name']:24} {row['size']:4} parameters {counts['parameters']:>11,}"
            f" off {row['parameters_off']:>+10,}"
            f"  gmacs {counts['macs'] / 1e9:9.3f} off {row['gmacs_off']:+8.3f}"
            f"  {time.monotonic() - started:5.1f} s  {verdict}",
            flush=True,
        )
    print(
        f"of {len(rows)} published rows {agree} are met (parameters equal, multiply-accumulates within 0.6 M), "
        f"{explained} deviate as explained, {len(rows) - agree - explained} are not explained or failed"
    )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
