"""What a latency verdict costs.

    python benchmarks/latency_cost.py [--sessions 5] [--budget 60]

Wall time until two ResNet-50s are decided at the default margin; what the harness adds to the calls it times, between
them and over a whole block; and what a fresh process costs beyond loading and warming up its listings.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from latency_setup import NETWORKS, described, entry, judged

from app.domain.policies import Policy
from workers.engine.latency import block, runners
from workers.engine.latency.plan import Scatter
from workers.engine.latency.points import RUNTIMES, OperatingPoint
from workers.engine.latency.process import Limits, run_forked

if TYPE_CHECKING:
    from workers.engine.latency.points import Entry

POLICY = Policy("default")
BLOCKS = 5


def decisions(folder: Path, runtime: str, sessions: int, budget_s: float) -> None:
    """Print the seconds until two ResNet-50s are decided."""
    pair = (entry("a", "resnet50", folder), entry("b", "resnet50", folder))
    seconds = []
    undecided = 0
    for seed in range(sessions):
        started = time.monotonic()
        point = judged(*pair, runtime, POLICY, budget_s=budget_s, seed=seed)
        seconds.append(time.monotonic() - started)
        undecided += point["verdict"] == "inconclusive"
        print(f"    {described(point)}", flush=True)
    print(
        f"resnet50 on {runtime}: decided in {statistics.median(seconds):.1f} s (longest {max(seconds):.1f} s), "
        f"{undecided} of {sessions} undecided"
    )


def blocks(pair: tuple[Entry, Entry], runtime: str) -> list[tuple[float, dict[str, Any]]]:
    """Run single blocks; return their seconds from fork to exit, and their results."""
    found = []
    for number in range(BLOCKS):
        task = block.Task(
            entries=pair,
            points=(OperatingPoint(runtime),),
            seed=0,
            number=number,
            left_s=20.0,
            done=(),
            scatter=Scatter(),
            margin=POLICY.latency_margin,
            apart=False,
        )
        outcome = run_forked(partial(block.run, task), Limits(60, 120))
        if outcome.result is None:
            raise SystemExit(f"A block of {pair[0].ref} failed: {outcome.reason}")
        found.append((outcome.seconds, outcome.result))
    return found


def overhead(name: str, pair: tuple[Entry, Entry], runtime: str) -> None:
    """Print what one block costs beside the calls that it times."""
    between, beyond = [], []
    for seconds, result in blocks(pair, runtime):
        (point,) = result["points"]
        measured = np.sum(point["call_ns"]) / 1e9
        between.append(result["rotation_s"] / measured - 1)
        beyond.append(seconds - result["start_s"] - result["rotation_s"])
    print(
        f"{name} on {runtime}: harness between timed calls {100 * statistics.median(between):.2f}% of the measured "
        f"time; fresh process {1000 * statistics.median(beyond):.0f} ms (longest {1000 * max(beyond):.0f} ms)"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=5)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for a session")
    options = parser.parse_args()
    for runtime in RUNTIMES:
        runners.preload(runtime)
    with tempfile.TemporaryDirectory() as folder:
        for runtime in RUNTIMES:
            for name in NETWORKS:
                overhead(name, (entry("a", name, Path(folder)), entry("b", name, Path(folder))), runtime)
            decisions(Path(folder), runtime, options.sessions, options.budget)


if __name__ == "__main__":
    main()
