"""Measure the steps of ``make audit`` on a fresh database: wall time in all, and time by kind of job.

    python benchmarks/audit_steps.py [--keep FOLDER]

Prints one line a step. Set-up and training of the digits zoos are not part of it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from sqlalchemy import select

from app.db.session import Database
from app.db.tables import Finding, Job
from app.settings import Settings

ROOT = Path(__file__).parents[1]


def commands() -> list[list[str]]:
    """Return the `zooaudit` calls of the target `audit`, as make would run them, with their arguments."""
    printed = subprocess.run(
        ["make", "--dry-run", "audit"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    lines = printed.replace("\\\n", " ").splitlines()
    return [line.split() for line in lines if "zooaudit audit" in line]


def seconds_by_kind(database: Database) -> dict[str, list[float]]:
    """Return the running time of every ended job, by kind."""
    spent: dict[str, list[float]] = {}
    with database.read() as session:
        for job in session.scalars(select(Job)):
            if job.started_at and job.finished_at:
                spent.setdefault(job.kind, []).append((job.finished_at - job.started_at).total_seconds())
    return spent


def main() -> None:
    """Run the audits and print what each part took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="data folder to use and keep, instead of a temporary one")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory(prefix="zooaudit-benchmark-") as temporary:
        folder = keep or Path(temporary)
        environment = os.environ | {"ZOOAUDIT_DATA_DIR": str(folder)}
        environment.setdefault("ZOOAUDIT_LOCAL_ZOOS", str(ROOT / "examples" / "digits"))
        total = 0.0
        for command in commands():
            start = time.monotonic()
            subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
            took = time.monotonic() - start
            total += took
            print(f"{took:8.1f} s  {' '.join(command[1:])}", flush=True)
        print(f"{total:8.1f} s  in all")
        database = Database(Settings(data_dir=folder).url)
        for kind, spent in sorted(seconds_by_kind(database).items()):
            print(
                f"{sum(spent):8.1f} s  in {len(spent)} {kind} jobs, "
                f"median {statistics.median(spent):.1f} s, longest {max(spent):.1f} s"
            )
        with database.read() as session:
            print(f"{len(session.scalars(select(Finding.id)).all()):8}    findings stored")
        database.dispose()


if __name__ == "__main__":
    main()
