"""Reads data sets of two sizes in each format, one fresh process each: items a second and peak memory.

python benchmarks/datasets.py

Pictures are noise, 32x32 and, encoded, 256x256; each format is written by its own bytes, as the tests do.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from workers.engine.accuracy.datasets import open_dataset

ROOT = Path(__file__).parents[1]
SIZES = {"raw": (10_000, 50_000), "encoded": (250, 1_000)}
LABELS = 10


def writers() -> Any:
    """Return the writers of the tests."""
    path = ROOT / "tests" / "workers" / "engine" / "accuracy" / "conftest.py"
    spec = importlib.util.spec_from_file_location("writers", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(root: Path, kind: str, n: int) -> list[dict[str, Any]]:
    """Write a data set of n items in each format of a kind; returns their specifications."""
    make, source = writers(), np.random.default_rng(1)
    labels = [int(label) for label in source.integers(0, LABELS, n)]
    if kind == "raw":
        images = source.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        np.savez(root / "d.npz", images=images, labels=labels)
        return [
            make.cifar_10(root / "cifar", images, labels),
            make.mnist(root / "mnist", images[..., 0], labels),
            make.mnist(root / "packed", images[..., 0], labels, suffix=".gz"),
            {"name": "npz", "format": "npz", "path": str(root / "d.npz")},
        ]
    noise = [make.encoded(source.integers(0, 256, (256, 256, 3), dtype=np.uint8), "JPEG") for _ in range(50)]
    pictures = [noise[number % 50] + number.to_bytes(4, "little") for number in range(n)]  # no two alike
    return [
        make.class_folders(root / "folders", pictures, [str(label) for label in labels]),
        make.parquet_file(root / "p.parquet", pictures, labels, group=100),
        make.saved(root / "saved", pictures, labels),
    ]


def read(spec: dict[str, Any]) -> dict[str, float]:
    """Decode every item; returns items a second of processor time, and the process's peak of its own memory, in MB."""
    n = 0
    for _ in open_dataset(spec):
        n += 1
        if n == 1:
            start = time.process_time()  # what is imported at the first use is no part of the rate
    return {"rate": (n - 1) / (time.process_time() - start), "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Return this process's largest resident memory since it was started, in MB."""
    # ru_maxrss would start from that of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def main() -> None:
    """Print a row a format: items, items a second, peak memory, at the small and at the large size."""
    print(f"{'format':24} {'items':>7} {'items/s':>9} {'peak MB':>9}")
    for kind, sizes in SIZES.items():
        for n in sizes:
            with tempfile.TemporaryDirectory() as folder:
                for spec in write(Path(folder), kind, n):
                    called = [sys.executable, __file__, json.dumps(spec)]
                    done = json.loads(subprocess.run(called, check=True, capture_output=True, text=True).stdout)
                    name = f"{spec['format']} ({Path(spec['path']).name})"
                    print(f"{name:24} {n:7,} {done['rate']:9,.0f} {done['peak_mb']:9.1f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(read(json.loads(sys.argv[1]))))
    else:
        main()
