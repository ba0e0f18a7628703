"""Kill the worker of a running job with SIGKILL, again and again, and say how long until the job runs again.

    python benchmarks/chaos_recovery.py [--kills 20] [--lease 6] [--seed 1] [--embedded]

Postgres, Redis, a reaper and four Celery workers, or with ``--embedded`` one ``zooaudit serve`` on SQLite, which a
service manager starts again. Each loss of a job makes its next wait longer, up to the longest. The time is from the
signal to the claim, by the database's own record. At last all are told to stop, while the job runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from random import Random
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]  # it ships no types
from chaos import site as sites
from chaos import verify, work
from rich.console import Console
from rich.progress import track
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from app.db.session import Database
from app.db.tables import Job

if TYPE_CHECKING:
    from chaos.site import Member, Site

_POLL_S = 0.02
_LIMIT_S = 120.0
KINDS = {
    "production": {"a worker with its group": True, "a worker's main process": False},
    "embedded": {"serve with its group": True},
}
"""What is killed, and whether its whole group is."""


def main() -> None:
    """Run one service, kill, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of each kind (default 20)")
    parser.add_argument("--lease", type=float, default=6.0, help="seconds of a lease (default 6)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--embedded", action="store_true", help="zooaudit serve on SQLite instead")
    options = parser.parse_args()
    common = {"lease_s": options.lease, "max_attempts": 4 * options.kills}
    opened = sites.embedded(**common) if options.embedded else sites.production(**common, workers=4)
    worst = 0.0
    with opened as site:
        victim = Victim(site, Random(options.seed))  # noqa: S311 - the same again, not unpredictable
        for kind, group in KINDS["embedded" if options.embedded else "production"].items():
            rounds = track(range(options.kills), kind, console=Console(stderr=True))
            waits = [victim.kill(group=group) for _ in rounds]
            worst = max(worst, max(waits) / options.lease)
            median = statistics.median(waits)
            print(f"{kind}, {len(waits)} kills: runs again after {median:.2f} s, at most {max(waits):.2f} s")
            print(f"leases until it runs again: {max(waits) / options.lease:.2f}")
        time.sleep(options.lease)  # in which a reaper looks for what the last one left
        victim.run()
        print(f"seconds to stop with the job running: {site.stop():.1f}")
        left = [*map(sites.words, site.left_over()), *map(str, verify.left(site.settings))]
        print(f"processes and files left: {len(left)}", *left, sep="\n  ")
    sys.exit(0 if worst <= 2 and not left else 1)


class Victim:
    """A job that runs for seconds, killed before it ends; where it was faster, another one takes its place."""

    def __init__(self, site: Site, random: Random) -> None:
        self._site = site
        self._random = random
        self._database = Database(site.settings.url)
        self._networks = [work.write_network(site.folder / f"n{channels}.onnx", channels) for channels in (4, 8)]
        self._submit()

    def kill(self, *, group: bool) -> float:
        """Kill who runs the job, at any moment between two heartbeats; return the seconds until it runs again."""
        while True:
            self.run()
            time.sleep(self._random.uniform(0.1, self._site.settings.lease_s / 3))
            killed = time.time()
            sites.kill(self._owner(), group=group)
            if self._runs(self._attempt):
                return self._claimed - killed

    def run(self) -> None:
        """Wait until the job runs."""
        while not self._runs(self._attempt - 1):
            self._submit()

    def _submit(self) -> None:
        request = {"a": self._networks[0], "b": self._networks[1], "dimensions": ["latency"], "latency_budget_s": 600}
        self._case = work.Case("latency", request, frozenset())
        work.Client(self._site.settings, self._database).submit(self._case)
        self._attempt = 0

    def _runs(self, after: int) -> bool:
        """Wait for a later attempt than this; note its process and its claim. False when the job has ended."""
        deadline = time.monotonic() + _LIMIT_S
        while time.monotonic() < deadline:
            self._site.keep(self._random)
            job = self._job()
            if job and job.state in verify.FINAL:
                return False
            if job and job.state == "running" and job.attempt > after and job.worker and job.started_at:
                self._attempt, self._pid = job.attempt, int(job.worker.split()[-2])
                self._claimed = job.started_at.timestamp()
                return True
            time.sleep(_POLL_S)
        raise TimeoutError(f"The job was not claimed within {_LIMIT_S:.0f} s.")

    def _job(self) -> Job | None:
        try:
            with self._database.read() as session:
                mine = select(Job).where(Job.kind == "latency", Job.comparison_id == self._case.id)
                return session.scalar(mine)
        except OperationalError:
            return None

    def _owner(self) -> Member:
        ancestors = {each.pid for each in psutil.Process(self._pid).parents()} | {self._pid}
        (owner,) = [each for each in self._site.members if each.process and each.process.pid in ancestors]
        return owner


if __name__ == "__main__":
    main()
