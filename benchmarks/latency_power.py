"""A planted slowdown of known size: how often it is found.

    python benchmarks/latency_power.py [--runs 40] [--network NAME]... [--runtime NAME]... [--budget 60]

Convolutions are planted beside a network, on a corner of its picture whose size is set until they cost what they shall:
3 % for a margin of 1 %, 10 % for the default margin of 5 %. What they cost is measured apart, in processor time of
alternating calls in several processes. Then, while another process keeps a core busy half of the time, sessions compare
the network with its slower twin; the slower one is A in every second run.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from latency_setup import busy_neighbour, described, entry, judged

from app.domain.policies import Policy
from workers.engine.latency import runners
from workers.engine.latency.points import RUNTIMES, OperatingPoint
from workers.engine.latency.process import Limits, run_forked

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.engine.latency.points import Entry

PROCESSES = 5
ROUNDS = 40
FIRST_SIDE = 40
TRIES = 8
LARGE = ("resnet50", "mobilenet_v2")
"""Networks of a thousand classes, behind which the layers fit."""


@dataclass(frozen=True)
class Case:
    """What is planted, what the policy allows, and the share of runs that must find it."""

    slowdown: float
    margin: float
    target: float


CASES = (Case(0.03, 0.01, 0.95), Case(0.10, 0.05, 1.0))
TOLERANCE = 0.3
"""A planted slowdown may be this share of itself larger than asked for, never smaller."""


def cost(slow: Entry, plain: Entry, runtime: str) -> float:
    """Return the ratio of processor times, slow over plain: the median over processes of medians of paired calls."""
    point = OperatingPoint(runtime)

    def body(_send: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        calls = [runners.load(item, point).call(point, 0) for item in (slow, plain)]
        for call in calls * 5:
            call()
        found = []
        for number in range(ROUNDS):
            times = {}
            for at in (0, 1) if number % 2 else (1, 0):
                start = time.process_time_ns()
                calls[at]()
                times[at] = time.process_time_ns() - start
            found.append(times[0] / times[1])
        return {"ratio": float(np.median(found))}

    outcomes = [run_forked(body, Limits(300, 300)) for _ in range(PROCESSES)]
    if failed := next((outcome.reason for outcome in outcomes if outcome.result is None), None):
        raise SystemExit(f"What was planted in {slow.ref} could not be measured: {failed}.")
    return statistics.median(outcome.result["ratio"] for outcome in outcomes if outcome.result)


def plant(name: str, runtime: str, slowdown: float, folder: Path) -> tuple[Entry, float]:
    """Return a slower twin of a network, and how many times its time it takes."""
    plain = entry("plain", name, folder)
    side = FIRST_SIDE
    for _ in range(TRIES):
        slow = entry("slow", name, folder, side)
        ratio = cost(slow, plain, runtime)
        print(f"  {name} on {runtime}: layers on a corner of {side} pixels cost {100 * (ratio - 1):.2f}%", flush=True)
        if slowdown <= ratio - 1 <= (1 + TOLERANCE) * slowdown:
            return slow, ratio
        aim = (1 + TOLERANCE / 2) * slowdown
        step = math.sqrt(min(max(aim / max(ratio - 1, 1e-3), 0.1), 10))
        side = max(4, round(side * step))
    raise SystemExit(f"No size of the planted layers made {name} on {runtime} slower by {100 * slowdown:g}%.")


def run(case: Case, runs: int, cases: list[tuple[str, str]], budget_s: float, folder: Path) -> None:
    """Print every run of one case and the share that found the slower one."""
    print(f"planting {100 * case.slowdown:g}%", flush=True)
    twins = {key: plant(*key, case.slowdown, folder) for key in cases}
    policy = Policy("power", latency_margin=case.margin)
    found, off, seconds = 0, [], []
    with busy_neighbour():
        for number in range(runs):
            name, runtime = key = cases[number % len(cases)]
            slow, ratio = twins[key]
            plain = entry("plain", name, folder)
            turned = number // len(cases) % 2 == 1
            a, b = (plain, slow) if turned else (slow, plain)
            started = time.monotonic()
            point = judged(a, b, runtime, policy, budget_s=budget_s, seed=number)
            seconds.append(time.monotonic() - started)
            found += point["verdict"] == ("a_faster" if turned else "b_faster")
            off.append(abs(math.log(point["ratio"])) - math.log(ratio))
            print(f"{number + 1:3} {name:13} {runtime:12} {described(point)}", flush=True)
    print(
        f"planted {100 * case.slowdown:g}% at a margin of {100 * case.margin:g}%: found in {found} of {runs} runs "
        f"({100 * found / runs:.1f}%); ratio less the planted one: mean {100 * statistics.mean(off):+.2f}%, "
        f"standard deviation {100 * statistics.pstdev(off):.2f}%; median {statistics.median(seconds):.1f} s"
    )


def main() -> None:
    """Measure both cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40, help="of each slowdown")
    parser.add_argument("--network", action="append", choices=LARGE)
    parser.add_argument("--runtime", action="append", choices=RUNTIMES)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for a session")
    options = parser.parse_args()
    for runtime in RUNTIMES:
        runners.preload(runtime)
    cases = [(name, runtime) for name in options.network or LARGE for runtime in options.runtime or RUNTIMES]
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            run(case, options.runs, cases, options.budget, Path(folder))


if __name__ == "__main__":
    main()
