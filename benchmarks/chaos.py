"""Put real services under fire and say which targets their figures meet.

    python benchmarks/chaos.py [--jobs 2000] [--seed 1] [--embedded]

Production first (Postgres, Redis, a reaper, four Celery workers), then the embedded default with 300 jobs; with
``--embedded`` that one alone, with ``--jobs`` jobs. Of each then how soon a job runs again whose worker was killed.
Exits with 1 when a target was missed.
"""

from __future__ import annotations

import argparse
import sys

import targets
from targets import Figure, Part

_NONE = {
    "every job has ended": "jobs not ended",
    "every job ended exactly once, by the database's own record": "jobs not ended exactly once",
    "nothing changed after its end": "changes after an end",
    "no attempt was claimed twice": "attempts claimed twice",
    "no measurement is missing": "measurements missing",
    "no measurement is doubled": "measurements doubled",
    "no answer is missing": "answers missing",
    "no finding is doubled": "findings doubled",
    "everything ended as it has to": "ended otherwise than they have to",
    "every number is right": "wrong numbers",
    "no process outlived what started it": "orphans after a kill",
    "no process is left": "orphans at the end",
    "no temporary file is left": "temporary files left",
}


def _part(*arguments: str) -> Part:
    figures = [Figure(said, rf"^{name}: ([\d.]+)$", lambda number: number == 0) for said, name in _NONE.items()]
    figures += [
        Figure("jobs", r"^jobs: ([\d.]+)$", lambda number: number > 0),
        Figure("faults", r"^faults: ([\d.]+)$", lambda number: number > 0),
        Figure("attempts redone", r"^attempts beyond the first: ([\d.]+)$", lambda number: number >= 0),
        Figure("told to stop, all have within 8 s", r"^seconds to stop: ([\d.]+)$", lambda number: number <= 8),
    ]
    return Part("chaos_run.py", arguments, tuple(figures))


def _recovery(*arguments: str) -> Part:
    figures = (
        Figure(
            "a killed worker's job runs again within two leases",
            r"^leases until it runs again: ([\d.]+)$",
            lambda number: number <= 2,
        ),
        Figure(
            "told to stop while it runs, all have within 8 s",
            r"^seconds to stop with the job running: ([\d.]+)$",
            lambda number: number <= 8,
        ),
        Figure("nothing is left then", r"^processes and files left: ([\d.]+)$", lambda number: number == 0),
    )
    return Part("chaos_recovery.py", arguments, figures)


def main() -> None:
    """Run the parts, then print the table of targets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, help="jobs in all (default 2000, embedded 300)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--embedded", action="store_true", help="the embedded default alone")
    options = parser.parse_args()
    seed = ("--seed", str(options.seed))
    embedded = _part("--embedded", "--jobs", str((options.embedded and options.jobs) or 300), "--every", "12", *seed)
    parts = {"embedded": embedded, "embedded, recovery": _recovery("--embedded", *seed)}
    if not options.embedded:
        production = _part("--jobs", str(options.jobs or 2000), *seed)
        parts = {"production": production, "recovery": _recovery(*seed), **parts}
    sys.exit(0 if targets.measure("Under fire", parts) else 1)


if __name__ == "__main__":
    main()
