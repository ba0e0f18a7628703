"""Measure every figure that docs/accuracy.md claims of speed and memory, and say which targets are met.

    python benchmarks/accuracy.py [--part PART]...

Each part is a script of its own beside this one and may be run alone; its lines are shown as it prints them. Some
minutes on an idle machine; throughput by wall time means nothing on a busy one. Exits with 1 when a part failed or a
target was missed.
"""

from __future__ import annotations

import argparse
import sys

import targets
from targets import Figure, Part

PARTS = {
    "live": Part(
        "accuracy_inference.py",
        ("--model", "mobilenet_v2"),
        (
            *(
                Figure(
                    f"95 % of the throughput of a bare loop on the same feed, or more, by {clock} time",
                    rf"live / fed loop: .*?([\d.]+) by {clock}",
                    lambda ratio: ratio >= 0.95,
                )
                for clock in ("wall", "processor")
            ),
            # Not by processor time too: threads cost some, and give back more of the wall's.
            Figure(
                "95 % of that of a loop that decodes between the runs, or more, by wall time",
                r"live / plain loop: ([\d.]+) by wall",
                lambda ratio: ratio >= 0.95,
            ),
            Figure(
                "peak memory at 16 times the items: 0 MiB more than what equal runs differ by",
                r"growth beyond chance: ([\d.]+) MiB",
                lambda growth: growth == 0,
            ),
        ),
    ),
    "recorded": Part(
        "accuracy_recorded.py",
        (),
        (
            Figure("import of 50,000 x 5 predictions under 1 s", r"import job: .* largest ([\d.]+) s", lambda s: s < 1),
            Figure(
                "comparison of two stored sets under 100 ms, reading included",
                r"comparison: [^;]* largest ([\d.]+) ms",
                lambda milliseconds: milliseconds < 100,
            ),
            Figure("audit of 34 recorded models or more", r"audit of (\d+) models", lambda models: models >= 34),
            Figure("all 561 pairs", r"with (\d+) pairs", lambda pairs: pairs >= 561),
            Figure("audit under 30 s", r"audit of .* in ([\d.]+) s", lambda seconds: seconds < 30),
        ),
    ),
}


def main() -> None:
    """Run the parts, then print the table of targets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part")
    options = parser.parse_args()
    parts = {name: PARTS[name] for name in options.part or PARTS}
    sys.exit(0 if targets.measure("Accuracy", parts) else 1)


if __name__ == "__main__":
    main()
