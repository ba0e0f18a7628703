"""The local worker: ``python -m workers.local [--until ID] [--slots N] [--schedules]`` polls the database for jobs.

It is the whole measuring side of the embedded default: slots that run jobs, one warm engine template, the reaper, and
with ``--schedules`` the scheduler: in ``zooaudit serve`` and ``zooaudit worker``, which stay. A worker that only helps
a command with its own answer must not start a night's audit.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app import logs, tracing
from app.db import audits, comparisons, job_changes
from app.db.session import Database
from app.domain.states import FINAL
from app.settings import Settings
from workers import looks, temporary
from workers.engines import EngineChoice
from workers.reaper import DEVICES, Reaper, look_s
from workers.scheduler import duties
from workers.stopping import Stop
from workers.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.db.jobs import Claim

_log = structlog.get_logger()

_LOOK_S = 0.2
_NOTICE_S = 0.04
"""Seconds after which an idle slot notices what was submitted."""


class LocalWorker:
    """Runs jobs of some device classes on ``slots`` threads until stopped."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        *,
        slots: int,
        devices: Sequence[str] = DEVICES[:1],
        schedules: bool = False,
    ) -> None:
        self._settings = settings
        self._database = database
        self._devices = devices
        self._slots = slots
        self._schedules = schedules
        self._engines = EngineChoice()
        self.stop = Stop()

    def run(self, until: uuid.UUID | None = None) -> None:
        """Work until asked to ``stop``, or until the comparison or audit ``until`` has ended.

        Jobs at hand then get the stop's time, or are queued again. Raises LookupError when there is nothing of that id.
        """
        if until is not None and not self._exists(until):
            raise LookupError(f"There is no comparison and no audit {until}.")
        threads = [threading.Thread(target=self._slot, name=f"slot {number}") for number in range(self._slots)]
        for thread in threads:
            thread.start()
        beside = duties(self._settings, self._database) if self._schedules else []
        try:
            with looks.doing(beside):
                self._oversee(until)
        finally:
            if not self.stop.asked():
                self.stop.ask(0.0)
            for thread in threads:
                thread.join()
            self._engines.close()

    def _oversee(self, until: uuid.UUID | None) -> None:
        reaper = Reaper(self._settings, self._database)
        reaped = 0.0
        while not self.stop.asked():
            try:
                if time.monotonic() - reaped >= look_s(self._settings):
                    reaper.look()
                    reaped = time.monotonic()
                if until is not None and self._ended(until):
                    return
            except SQLAlchemyError as error:
                _log.warning("the database does not answer", error=str(error))
            self.stop.wait(_LOOK_S)

    def _slot(self) -> None:
        supervisor = Supervisor(self._settings, self._database, self._engines, self.stop)
        while not self.stop.asked():
            try:
                claim = self._next(supervisor)
            except SQLAlchemyError as error:
                _log.warning("no claim", error=str(error))
                self.stop.wait(self._settings.poll_s)
                continue
            if claim is not None:
                supervisor.run(claim)

    def _next(self, supervisor: Supervisor) -> Claim | None:
        """Claim a job; when none is ready, return None as soon as another look may find one."""
        until = time.monotonic() + self._settings.poll_s
        with self._database.look() as connection:
            # Read before the claim: what comes after it ends the wait.
            newest = job_changes.newest(connection)
            claims = map(supervisor.claim_next, self._devices)
            if claim := next(filter(None, claims), None):
                return claim
            while time.monotonic() < until and not self.stop.asked() and job_changes.newest(connection) == newest:
                self.stop.wait(min(_NOTICE_S, self._settings.poll_s))
        return None

    def _exists(self, wanted: uuid.UUID) -> bool:
        with self._database.read() as session:
            return comparisons.get(session, wanted) is not None or audits.get(session, wanted) is not None

    def _ended(self, wanted: uuid.UUID) -> bool:
        with self._database.read() as session:
            if comparison := comparisons.get(session, wanted):
                return comparisons.shown(session, comparison)[0] in FINAL
            audit = audits.get(session, wanted)
            return audit is None or audits.shown(session, audit)[0] in FINAL


def _end_with(stop: Stop) -> None:
    """Stop when whoever holds the other end of standard input closes it, or dies."""
    while os.read(0, 1):
        pass
    stop.ask(0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a local worker; return the exit status: 0, or 2 when there is nothing of the id given."""
    parser = argparse.ArgumentParser(prog="python -m workers.local", description="Runs queued jobs on this machine.")
    parser.add_argument("--until", type=uuid.UUID, help="end when this comparison or audit has ended")
    parser.add_argument("--slots", type=int, help="jobs at the same time (default: ZOOAUDIT_WORKER_SLOTS)")
    parser.add_argument(
        "--device", action="append", choices=DEVICES, help="device class of the jobs to run; repeat for several"
    )
    parser.add_argument("--schedules", action="store_true", help="also submit the audits of schedules that are due")
    parser.add_argument(
        "--beside", action="store_true", help="hand everything back and end as soon as standard input closes"
    )
    options = parser.parse_args(arguments)
    logs.configure()
    tracing.configure("zooaudit-worker")
    settings = Settings()
    temporary.use_own(settings.data_dir)
    database = Database(settings.url)
    slots, devices = options.slots or settings.worker_slots, options.device or DEVICES[:1]
    worker = LocalWorker(settings, database, slots=slots, devices=devices, schedules=options.schedules)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: worker.stop.ask(settings.stop_s))
    if options.beside:
        threading.Thread(target=_end_with, args=(worker.stop,), name="beside", daemon=True).start()
    try:
        worker.run(options.until)
    except LookupError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    finally:
        database.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
