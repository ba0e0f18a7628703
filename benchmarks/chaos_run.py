"""Put a real service under fire until all of its work has ended, then say what came of it.

    python benchmarks/chaos_run.py [--jobs 2000] [--seed 1] [--embedded] [--every SECONDS]

Postgres, Redis, a reaper and four Celery workers, or with ``--embedded`` one ``zooaudit serve`` on SQLite, run short
real jobs while they are killed with SIGKILL at random and started again. Progress is shown on standard error. Exits
with 1 when anything is not as it has to be.
"""

from __future__ import annotations

import argparse
import sys
import time
from random import Random
from typing import TYPE_CHECKING

from chaos import site as sites
from chaos import verify, work
from chaos.faults import Faults
from rich.console import Console
from rich.progress import Progress

from app.db.session import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.site import Site

_BACKLOG = 150
"""Jobs that may wait while more are submitted: the service is under fire in all of its states."""

_POLL_S = 0.2


def main() -> None:
    """Run one service under fire and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2000, help="jobs in all, at least (default 2000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--embedded", action="store_true", help="zooaudit serve on SQLite instead")
    parser.add_argument("--every", type=float, default=6.0, help="mean seconds between two faults (default 6)")
    parser.add_argument("--lease", type=float, default=6.0, help="seconds of a lease (default 6)")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--max-attempts", type=int, default=6, help="so that the faults of one run give no job up")
    parser.add_argument("--limit", type=float, default=7200.0, help="seconds after which what has not ended is told")
    options = parser.parse_args()
    common = {"lease_s": options.lease, "max_attempts": options.max_attempts}
    opened = sites.embedded(**common) if options.embedded else sites.production(**common, workers=options.workers)
    with opened as site:
        found = under_fire(site, options)
    bad = [name for name in verify.WRONG if found[name]]
    print(f"seed {options.seed}: {'nothing wrong' if not bad else 'WRONG: ' + ', '.join(bad)}")
    sys.exit(1 if bad else 0)


def under_fire(site: Site, options: argparse.Namespace) -> dict[str, float]:
    """Run the whole load; return the figures by name, printed too."""
    random = Random(options.seed)  # noqa: S311 - faults must be the same again, not unpredictable
    database = Database(site.settings.url)
    verify.watch_states(database)
    client = work.Client(site.settings, database)
    faults = Faults(site, random, options.every)
    calm = work.first_imports(site.folder)
    load = work.cases(site.folder, options.jobs, random)
    started = time.monotonic()
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("first imports", total=load.jobs())
        for case in calm:
            client.submit(case)
        while client.open_jobs():
            site.keep(random)
            time.sleep(_POLL_S)
        faults.begin()
        for ended in _work(site, client, faults, load, random):
            bar.update(task, completed=ended, description=f"{faults.done.total()} faults")
            if time.monotonic() - started > options.limit:
                break
    took = time.monotonic() - started
    site.settle(random)
    stopped = site.stop()
    time.sleep(1.0)  # what has just been killed is gone by then
    cases = [*calm, *load.cases]
    found: dict[str, float] = dict(verify.figures(database, site.settings, cases))
    found |= {"orphans after a kill": len(faults.orphans), "orphans at the end": len(site.left_over())}
    found |= {f"faults: {name}": number for name, number in sorted(faults.done.items())}
    found |= {"faults": faults.done.total(), "submissions tried again": client.retries}
    found |= {"seconds under fire": round(took, 1), "seconds to stop": round(stopped, 1)}
    for name, number in found.items():
        print(f"{name}: {number}")
    orphans = [f"orphan: {sites.words(process)}" for process in (*faults.orphans, *site.left_over())]
    for told in (*orphans, *map(str, verify.left(site.settings)), *verify.wrong(database, cases)):
        print(f"  {told}")
    database.dispose()
    return found


def _work(site: Site, client: work.Client, faults: Faults, load: work.Load, random: Random) -> Iterator[int]:
    """Submit and cancel until everything has ended, among faults; yield about how many jobs have."""
    waiting = list(load.cases)
    while True:
        site.keep(random)
        faults.maybe()
        client.cancel_due(load.cases)
        still = client.open_jobs()
        yield load.jobs() - len(waiting) - still
        if not waiting and not still:
            return
        for _ in range(min(len(waiting), 10) if still < _BACKLOG else 0):
            client.submit(waiting.pop())
        time.sleep(_POLL_S)


if __name__ == "__main__":
    main()
