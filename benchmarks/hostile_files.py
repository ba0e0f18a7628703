"""Sends hostile files through a worker and prints what became of each. No payload may run, each file gets its reason.

python benchmarks/hostile_files.py [--match TEXT]
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import structlog
from hostile import builders, containers, field, networks, pickles
from rich.console import Console
from rich.table import Table

from app.db.migrate import upgrade
from app.db.session import Database
from app.settings import Settings
from workers.engines import EngineChoice

CASES = [*pickles.CASES, *networks.CASES, *containers.CASES, *builders.CASES]


def main() -> int:
    """Run the battery; return 1 when a payload ran or a file did not get one of its reasons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--match", default="", help="Only files whose name contains this text.")
    match = parser.parse_args().match
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    base = Path(tempfile.mkdtemp(prefix="zooaudit-hostile-"))
    home = field.torch_home(base)
    settings = Settings(
        data_dir=base / "data",
        engine_memory_bytes=2 * 2**30,
        engine_disk_bytes=64 * 2**20,
        engine_processes=200,
        engine_timeout_s=120.0,
        confinement="require",
    )
    settings.data_dir.mkdir()
    database = Database(settings.url)
    upgrade(database)
    engines = EngineChoice()
    ground = field.Field(base, settings, database, engines, home)
    table = Table("file", "route", "verdict", "code", "reason", "ran", "s>", "MiB>", box=None)
    bad = []
    try:
        for case in (case for case in CASES if match in case.name):
            outcome = ground.send(case)
            if outcome.ran or outcome.state != "failed" or outcome.code not in case.codes:
                bad.append((case.name, outcome))
            reason = outcome.message.split("is not loaded: ")[-1].replace(str(base), "")[:70]
            ran = "YES" if outcome.ran else "no"
            figures = (f"{outcome.seconds:.1f}", field.mib(outcome.peak_bytes))
            table.add_row(case.name, case.route, outcome.failure, outcome.code, reason, ran, *figures)
        works = field.control(base)
        clean = field.empty(settings.data_dir)
    finally:
        engines.close()
        database.dispose()
        field.forget(base)
    Console(width=200).print(table)
    print(f"\n{table.row_count} files; payloads that ran: {sum(outcome.ran for _, outcome in bad)};", end=" ")
    print(f"without their reason: {len(bad)}; the payload itself works: {works}; all scratch folders removed: {clean}")
    for name, outcome in bad:
        print(f"WRONG {name}: {outcome}")
    return int(bool(bad) or not works or not clean)


if __name__ == "__main__":
    sys.exit(main())
