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

_GATHERED = "the exported graph holds position-bias tables expanded to every pair of positions, and shift masks"
_COMPUTED = f"{_GATHERED}; the bias is computed once, from weights that are no longer there, and not at every call"
EXPLAINED: dict[str, tuple[int, float, str]] = {
    # name: parameters off, giga-multiply-accumulates off, why
    "inception_v3": (-3_326_696, 0.0, "the auxiliary head is trained and published, and not run in inference"),
    # (49 x 49 - 169) entries for each of 138, 282, 376 or 168 heads, and 220,892 or 278,516 mask entries.
    "swin_t": (138 * 2232 + 220_892, 0.0, _GATHERED),
    "swin_s": (282 * 2232 + 278_516, 0.0, _GATHERED),
    "swin_b": (376 * 2232 + 278_516, 0.0, _GATHERED),
    "maxvit_t": (168 * 2232, 0.0, _GATHERED),
    # 64 x 64 entries a head and masks, without 3 x 512 weights a block and 512 a head; the products of those weights
    # with the 225 offsets are folded.
    "swin_v2_t": (138 * 4096 + 376_832 - 12 * 1536 - 138 * 512, -0.0187, _COMPUTED),
    "swin_v2_s": (282 * 4096 + 475_136 - 24 * 1536 - 282 * 512, -0.0380, _COMPUTED),
    "swin_v2_b": (376 * 4096 + 475_136 - 24 * 1536 - 376 * 512, -0.0488, _COMPUTED),
}
"""Every deviation from what torchvision publishes, exactly, with its reason."""


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
    agree = explained = 0
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
            expected = EXPLAINED.get(row["name"], (0, 0.0, ""))
            met = row["parameters_off"] == expected[0] and abs(row["gmacs_off"] - expected[1]) <= 0.0006
            agree += met and not expected[2]
            explained += met and bool(expected[2])
            verdict = "NOT EXPLAINED" if not met else expected[2] or "equal"
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
