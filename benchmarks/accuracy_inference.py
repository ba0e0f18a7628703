"""Throughput and memory of running a model over a data set.

    python benchmarks/accuracy_inference.py [--model resnet18] [--items 256] [--rounds 6]

Throughput: live evaluation against two bare loops over the same session, batches and preprocessing, one that is fed by
the same threads and does nothing with the scores, and one that decodes between the runs. All take turns in one process,
several rounds; the medians of the ratios are printed, by wall time and by processor time. Memory: the peaks of fresh
processes at the items given and at sixteen times as many. The pictures are generated JPEGs of 256 x 256, the weights
random.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torchvision
from PIL import Image

from workers.engine.accuracy.datasets import open_dataset
from workers.engine.accuracy.feed import batches, decoders
from workers.engine.accuracy.inference import Inference
from workers.engine.accuracy.runners import Execution
from workers.engine.contracts.apply import apply
from workers.engine.contracts.contract import Contract
from workers.engine.graph.export import export_module
from workers.execution import execution

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.engine.accuracy.datasets import Dataset
    from workers.engine.accuracy.runners import Runner

CONTRACT = Contract(
    height=224,
    width=224,
    resize=232,
    crop=(224, 224),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
CLASSES = 1000
FILES = 64
"""Different pictures; the rest are links to them."""

TIMES = 16
"""How many times more items the second measurement of memory has."""

REPEATS = 3
"""Processes that each measurement of memory is the median of."""


def silent(done: int, total: int, message: str) -> None:
    """Take progress and drop it."""
    del done, total, message


def pictures(folder: Path, items: int) -> Dataset:
    """Make a folder of so many JPEGs in ``CLASSES`` classes."""
    random = np.random.default_rng(0)
    first: list[Path] = []
    for item in range(max(items, CLASSES)):
        path = folder / f"{item % CLASSES:04}" / f"{item}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if item < FILES:
            coarse = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC).save(path, quality=90)
            first.append(path)
        else:
            path.hardlink_to(first[item % FILES])
    return data(folder)


def data(folder: Path) -> Dataset:
    """Open a folder that ``pictures`` made."""
    return open_dataset(
        {"name": "jpegs", "format": "folder", "path": str(folder), "label_space": "imagenet-1k", "classes": CLASSES}
    )


def how() -> Execution:
    """Return how a job would run it on the CPU."""
    return Execution(**execution({"runtime": "onnxruntime", "device": "cpu"}, CONTRACT.input_shape()))


def evaluator(model: Path, dataset: Dataset) -> Inference:
    """Return what a job runs."""
    return Inference(model, CONTRACT, dataset, how(), progress=silent, label_space="imagenet-1k")


def fed_loop(runner: Runner, dataset: Dataset, items: int) -> None:
    """Run every batch that the feed gives, and nothing else."""
    for batch in batches(dataset, CONTRACT, runner.batch, start=0, stop=items):
        runner.run(batch.pictures)


def plain_loop(runner: Runner, dataset: Dataset, items: int) -> None:
    """Decode, preprocess and run, one after the other."""
    waiting = []
    for index, (raw, _) in zip(range(items), dataset.raw(), strict=False):
        waiting.append(apply(CONTRACT, dataset.decode(index, raw)))
        if len(waiting) == runner.batch:
            runner.run(np.stack(waiting))
            waiting.clear()
    if waiting:
        runner.run(np.stack(waiting))


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of wall time and of processor time that a call takes."""
    wall, cpu = time.monotonic(), time.process_time()
    call()
    return time.monotonic() - wall, time.process_time() - cpu


def throughput(model: Path, dataset: Dataset, items: int, rounds: int) -> None:
    """Print the ratios of throughput, live over bare."""
    live = evaluator(model, dataset)
    runner = live.load()
    ways: dict[str, Callable[[], object]] = {
        "live": lambda: live.answer(0, items, runner),
        "fed": lambda: fed_loop(runner, dataset, items),
        "plain": lambda: plain_loop(runner, dataset, items),
    }
    for call in ways.values():
        call()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        # Each goes first as often as the others: the machine drifts.
        names = list(ways)
        for name in names[number % 3 :] + names[: number % 3]:
            found[name].append(timed(ways[name]))
    print(f"{model.stem}, batch {runner.batch}, {items} items, {decoders()} decoding threads, {rounds} rounds")
    for name, (wall, cpu) in {
        name: map(statistics.median, zip(*times, strict=True)) for name, times in found.items()
    }.items():
        print(f"  {name:6}{items / wall:8.1f} items/s{1000 * cpu / items:8.2f} ms of processor time an item")
    for name in ("fed", "plain"):
        pairs = list(zip(found[name], found["live"], strict=True))
        walls, cpus = ([bare[at] / live[at] for bare, live in pairs] for at in (0, 1))
        print(
            f"  throughput of live / {name} loop: {statistics.median(walls):.3f} by wall time "
            f"({min(walls):.3f} to {max(walls):.3f}), {statistics.median(cpus):.3f} by processor time"
        )


def memory(model: Path, folder: Path, items: int) -> None:
    """Print the peak memory of fresh processes that evaluate ``items`` and ``TIMES`` as many, and what they grow by.

    Equal runs differ by some MiB, as threads and allocators have it: only what is beyond that is growth.
    """
    peaks: dict[int, list[float]] = {items: [], TIMES * items: []}
    for _ in range(REPEATS):
        for count, found in peaks.items():
            command = [sys.executable, __file__, "--one", str(model), str(folder), str(count)]
            found.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    for count, found in peaks.items():
        print(
            f"  peak memory at {count:6} items: median {statistics.median(found):8.1f} MiB "
            f"({min(found):.1f} to {max(found):.1f})"
        )
    few, many = peaks.values()
    growth = statistics.median(many) - statistics.median(few)
    chance = max(max(found) - min(found) for found in peaks.values())
    print(f"  growth of the median: {growth:+.1f} MiB, equal runs differ by up to {chance:.1f} MiB")
    print(f"  growth beyond chance: {max(0.0, growth - chance):.1f} MiB")


def peak(model: Path, folder: Path, items: int) -> None:
    """Evaluate in this process; print its peak memory in MiB."""
    live = evaluator(model, data(folder))
    live.self_noise(live.answer(0, items)[0])
    # Not getrusage: its peak outlives exec, and would be that of the process which exported the model.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18", help="a classifier of torchvision")
    parser.add_argument("--items", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--one", nargs=3, metavar=("MODEL", "FOLDER", "ITEMS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        peak(Path(options.one[0]), Path(options.one[1]), int(options.one[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / f"{options.model}.onnx"
        torch.manual_seed(0)
        export_module(torchvision.models.get_model(options.model, weights=None), CONTRACT.input_shape(), model)
        dataset = pictures(Path(folder) / "jpegs", TIMES * options.items)
        throughput(model, dataset, options.items, options.rounds)
        memory(model, Path(folder) / "jpegs", options.items)


if __name__ == "__main__":
    main()
