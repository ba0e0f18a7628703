"""Measure every figure that docs/latency.md claims, and say which targets are met.

    python benchmarks/latency.py [--part PART]...

Each part is a script of its own beside this one and may be run alone; its lines are shown as it prints them. Two hours
in all, with two cores to itself: ``same`` and ``power`` keep one of them busy half of the time themselves. Exits with 1
when a part failed or a target was missed.
"""

from __future__ import annotations

import argparse
import sys

import targets
from targets import Figure, Part

PARTS = {
    "cost": Part(
        "latency_cost.py",
        (),
        (
            Figure(
                "two ResNet-50s decided in 60 s of wall time",
                r"^resnet50 on \w+: decided in .*longest ([\d.]+) s",
                lambda seconds: seconds <= 60,
            ),
            Figure("none of them undecided", r"(\d+) of \d+ undecided", lambda undecided: undecided == 0),
            Figure(
                "harness under 2 % of the measured time (ResNet-50, MobileNetV2)",
                r"^(?:resnet50|mobilenet_v2) on \w+: harness .*? ([\d.]+)%",
                lambda share: share < 2,
            ),
            Figure(
                "a fresh process under 150 ms beyond loading",
                r"fresh process ([\d.]+) ms",
                lambda milliseconds: milliseconds < 150,
            ),
        ),
    ),
    "same": Part(
        "latency_same.py",
        (),
        (
            Figure("60 comparisons of a listing with itself", r"^zooaudit: (\d+) comparisons", lambda n: n >= 60),
            Figure("at most 5 % false", r"^zooaudit: .* ([\d.]+)% false", lambda share: share <= 5),
            Figure("spread of 0.5 % at most", r"^zooaudit: .* spread ([\d.]+)%", lambda spread: spread <= 0.5),
            Figure(
                "5 times tighter than the sequential mean",
                r"tighter than the sequential mean: ([\d.]+) times",
                lambda times: times >= 5,
            ),
        ),
    ),
    "power": Part(
        "latency_power.py",
        (),
        (
            Figure(
                "3 % found in 95 % of 40 runs at a margin of 1 %",
                r"planted 3% .* runs \(([\d.]+)%\)",
                lambda share: share >= 95,
            ),
            Figure("10 % found in all of 40 runs", r"planted 10% .* runs \(([\d.]+)%\)", lambda share: share == 100),
        ),
    ),
}


def main() -> None:
    """Run the parts, then print the table of targets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part")
    options = parser.parse_args()
    parts = {name: PARTS[name] for name in options.part or PARTS}
    sys.exit(0 if targets.measure("Latency", parts) else 1)


if __name__ == "__main__":
    main()
