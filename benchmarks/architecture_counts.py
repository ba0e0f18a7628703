"""Check the counter against torchvision's published ``num_params`` and ``_ops`` for all its classification models.

    python benchmarks/architecture_counts.py [--match TEXT] [--json FILE]

Prints one line a network and input size: counted and published parameters and giga-multiply-accumulates, and how far
each is off. Networks are exported with uninitialised weights; the largest needs 6 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torchvision
from architecture import networks
from rich.progress import track

from workers.engine.graph.canonical import canonicalise


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


def count(name: str, size: int, folder: Path) -> dict[str, int]:
    """Counts of one network at one input size, per picture."""
    path = folder / "network.onnx"
    networks.export(*networks.build(name, size), path, keep_weights=name.startswith("swin"))
    return canonicalise(path).counts


def main() -> None:
    """Count every network and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--match", default="", help="only networks whose name contains this")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    rows = published(options.match)
    agree = 0
    with tempfile.TemporaryDirectory() as folder:
        for row in track(rows, description="counting"):
            started = time.monotonic()
            try:
                counts = count(row["name"], row["size"], Path(folder))
            except Exception as error:  # noqa: BLE001  (one network's failure is a row of the table)
                row["error"] = str(error)
                print(f"{row['name']:24} {row['size']:4} failed: {row['error'][:120]}", flush=True)
                continue
            row["parameters_off"] = counts["parameters"] - row["parameters"]
            row["gmacs_off"] = round(counts["macs"] / 1e9 - row["gmacs"], 4)
            exact = row["parameters_off"] == 0 and abs(row["gmacs_off"]) <= 0.0006
            agree += exact
            print(
                f"{row['name']:24} {row['size']:4} parameters {counts['parameters']:>11,}"
                f" off {row['parameters_off']:>+10,}"
                f"  gmacs {counts['macs'] / 1e9:9.3f} off {row['gmacs_off']:+8.3f}"
                f"  {'equal' if exact else 'DIFFERS'} {time.monotonic() - started:5.1f} s",
                flush=True,
            )
    print(
        f"{agree} of {len(rows)} published rows are met exactly (parameters equal, multiply-accumulates within 0.6 M)"
    )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
