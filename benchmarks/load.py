"""Measure what the API bears, and say which targets are met: `make benchmark-load`.

    python benchmarks/load.py [--part PART]...

Each part is a script of its own beside this one and may be run alone; its lines are shown as it prints them. Seven
minutes, with two cores to itself: the database, the API and what drives it share them. Exits with 1 when a part
failed or a target was missed.
"""

from __future__ import annotations

import argparse
import sys

import targets
from targets import Figure, Part

PARTS = {
    "queries": Part(
        "load_queries.py",
        (),
        (
            Figure("a million findings", r"([\d]+),\d+,\d+ findings", lambda millions: millions >= 1),
            Figure("100 requests/s answered", r"^answered ([\d.]+) requests/s", lambda rate: rate >= 98),
            Figure("p99 of all requests 50 ms at most", r"^all requests: .*p99 ([\d.]+) ms", lambda ms: ms <= 50),
            Figure("p99 of each query 50 ms at most", r"^slowest query: p99 ([\d.]+) ms", lambda ms: ms <= 50),
            Figure("no sequential scan", r"^sequential scans: (\d+)", lambda scans: scans == 0),
        ),
    ),
    "submit": Part(
        "load_submit.py",
        (),
        (
            Figure("200 comparisons/s submitted", r"^submitted (\d+) comparisons/s to 4 ", lambda rate: rate >= 200),
            Figure(
                "claimed within 100 ms of submission, Celery on Redis",
                r"claim, Celery on Redis: .*max ([\d.]+) ms",
                lambda ms: ms <= 100,
            ),
            Figure(
                "claimed within 100 ms of submission, embedded",
                r"claim, embedded: .*max ([\d.]+) ms",
                lambda ms: ms <= 100,
            ),
        ),
    ),
}


def main() -> int:
    """Run the parts that are asked for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="repeat for several; default: all")
    chosen = parser.parse_args().part or list(PARTS)
    return 0 if targets.measure("Load", {name: PARTS[name] for name in chosen}) else 1


if __name__ == "__main__":
    sys.exit(main())
