"""A listing against itself: how often it is called faster than itself, and how far the ratio wanders.

    python benchmarks/latency_same.py [--comparisons 60] [--network NAME]... [--runtime NAME]... [--budget 60]

While another process keeps a core busy half of the time, each round measures one pair by a session of this project at
the default margin, then by two sequential protocols (see ``latency_rivals``), so that all meet the same machine. The
sessions are those of any comparison: nothing tells them that both listings are one. Prints a line a comparison and a
table; ``false`` counts ``a_faster`` and ``b_faster``, and for the sequential ones a mean outside the margin, and a
t-test that tells a listing from itself.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from latency_rivals import perf_test, sequential, timm_mean
from latency_setup import NETWORKS, busy_neighbour, described, entry, judged
from rich.console import Console
from rich.table import Table

from app.domain.policies import Policy
from workers.engine.latency import runners
from workers.engine.latency.points import RUNTIMES

if TYPE_CHECKING:
    from workers.engine.latency.points import Entry

POLICY = Policy("default")
OURS, MEAN, DURATION = "zooaudit", "sequential mean (timm)", "sequential mean (onnxruntime_perf_test)"


@dataclass
class Record:
    """What one way of measuring found: the log-ratios, and how many of them were wrong by verdict and by t-test."""

    ratios: list[float] = field(default_factory=list)
    false: int = 0
    inconclusive: int = 0
    told_apart: int | None = None
    seconds: list[float] = field(default_factory=list)

    def sequential(self, ratio: float, seconds: float, *, told_apart: bool) -> None:
        """Note what a sequential protocol found."""
        self.ratios.append(ratio)
        self.false += abs(ratio) > math.log1p(POLICY.latency_margin)
        self.told_apart = (self.told_apart or 0) + told_apart
        self.seconds.append(seconds)

    def spread(self) -> float:
        """Return the root mean square of the log-ratios, whose true value is 0, in per cent."""
        return 100 * math.sqrt(statistics.mean(value**2 for value in self.ratios))


def one_round(
    pair: tuple[Entry, Entry], runtime: str, records: dict[str, Record], *, budget_s: float, seed: int
) -> str:
    """Measure the pair in every way, in turns; return a line about ours."""
    started = time.monotonic()
    point = judged(*pair, runtime, POLICY, budget_s=budget_s, seed=seed)
    seconds = time.monotonic() - started
    ours = records[OURS]
    ours.ratios.append(math.log(point["ratio"]))
    ours.false += point["verdict"] in {"a_faster", "b_faster"}
    ours.inconclusive += point["verdict"] == "inconclusive"
    ours.seconds.append(seconds)
    for name, way in ((MEAN, timm_mean), (DURATION, partial(perf_test, duration_s=seconds / 2))):
        started = time.monotonic()
        found, told_apart = sequential(*pair, runtime, way)
        records[name].sequential(found, time.monotonic() - started, told_apart=told_apart)
    return f"{described(point)}; sequential " + ", ".join(
        f"{math.exp(records[name].ratios[-1]):.4f}" for name in (MEAN, DURATION)
    )


def report(found: dict[tuple[str, str], dict[str, Record]]) -> None:
    """Print the table and the figures that the targets are judged by."""
    table = Table(
        "network", "runtime", "way", "n", "false", "t-test", "inconclusive", "spread %", "worst %", "seconds",
        title="One listing against itself",
    )  # fmt: skip
    for (network, runtime), records in found.items():
        for way, record in records.items():
            table.add_row(
                network,
                runtime,
                way,
                str(len(record.ratios)),
                str(record.false),
                "-" if record.told_apart is None else str(record.told_apart),
                str(record.inconclusive),
                f"{record.spread():.2f}",
                f"{100 * max(map(abs, record.ratios)):.2f}",
                f"{statistics.median(record.seconds):.1f}",
            )
    Console(width=140).print(table)
    every = {way: [records[way] for records in found.values()] for way in (OURS, MEAN, DURATION)}
    spread = {}
    for way, mine in every.items():
        total = sum(len(record.ratios) for record in mine)
        false = sum(record.false for record in mine)
        spread[way] = math.sqrt(statistics.mean(value**2 for record in mine for value in record.ratios))
        apart = sum(record.told_apart or 0 for record in mine)
        tested = f", {100 * apart / total:.1f}% told apart by a t-test" if way != OURS else ""
        print(f"{way}: {total} comparisons, {100 * false / total:.1f}% false, spread {100 * spread[way]:.3f}%{tested}")
    print(f"tighter than the sequential mean: {spread[MEAN] / spread[OURS]:.1f} times")
    print(f"tighter than the perf test: {spread[DURATION] / spread[OURS]:.1f} times")


def main() -> None:
    """Measure in turns over networks and runtimes, so that what ends early still says something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=60)
    parser.add_argument("--network", action="append", choices=NETWORKS)
    parser.add_argument("--runtime", action="append", choices=RUNTIMES)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for a session")
    parser.add_argument("--idle", action="store_true", help="without the busy neighbour")
    options = parser.parse_args()
    for runtime in RUNTIMES:
        runners.preload(runtime)
    cases = [(name, runtime) for name in options.network or NETWORKS for runtime in options.runtime or RUNTIMES]
    found = {case: {way: Record() for way in (OURS, MEAN, DURATION)} for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        pairs = {name: (entry("a", name, Path(folder)), entry("b", name, Path(folder))) for name, _ in cases}
        with contextlib.nullcontext() if options.idle else busy_neighbour():
            for number in range(options.comparisons):
                name, runtime = cases[number % len(cases)]
                line = one_round(pairs[name], runtime, found[name, runtime], budget_s=options.budget, seed=number)
                print(f"{number + 1:3} {name:13} {runtime:12} {line}", flush=True)
    report({case: records for case, records in found.items() if records[OURS].ratios})


if __name__ == "__main__":
    main()
