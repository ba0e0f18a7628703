"""The reaper: recovers lost jobs, rings again for unclaimed ones, removes what dead attempts left.

``python -m workers.reaper`` is its own small process. Any number may run: one at a time works.
"""

from __future__ import annotations

import fcntl
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import select, text

from app import queue
from app.db import jobs, rings
from app.db.tables import Job
from app.domain.states import State
from workers import commit, looks, temporary
from workers.files import Attempt, FileStore, Scratch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.db.session import Database
    from app.settings import Settings

_log = structlog.get_logger()

DEVICES = ("cpu", "gpu")
_LOCK = 0x7A6F6F61  # "zooa": the advisory lock's number, one for the whole database
_PART = 6
"""Part of a lease between two looks. A job whose worker died waits at most one lease until that has ended, a look until
it is seen, its back-off (``_LONGEST_WAIT`` parts at most) and a look until it is rung for: less than two leases."""

_LONGEST_WAIT = 3
_PARTIAL_S = 3600.0
"""Age of a half-written file of no attempt, such as an upload, after which nobody writes it any more."""


def look_s(settings: Settings) -> float:
    """Return the seconds between two looks."""
    return settings.lease_s / _PART


class Reaper:
    """One look at everything that may have been left behind, as often as asked."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    def look(self) -> bool:
        """Recover, ring and sweep once; False when another reaper is at it."""
        with self._alone() as alone:
            if not alone:
                return False
            self._recover()
            self._ring()
            self._sweep()
        return True

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Hold the lock that makes reapers take turns; both kinds end with their process."""
        if self._database.engine.dialect.name == "postgresql":
            with self._database.engine.connect() as connection:
                # Bound to this transaction, which stays open meanwhile.
                yield bool(connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _LOCK}))
            return
        self._settings.data_dir.mkdir(parents=True, exist_ok=True)
        with (self._settings.data_dir / "reaper.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _recover(self) -> None:
        with self._database.write() as session:
            requeued, failed = jobs.recover(
                session,
                max_attempts=self._settings.max_attempts,
                back_off_s=look_s(self._settings),
                longest_s=_LONGEST_WAIT * look_s(self._settings),
            )
            for job in session.scalars(select(Job).where(Job.id.in_(failed))):
                commit.fail_owner(session, job.kind, job.payload, job.error or {})
        if requeued or failed:
            _log.warning("lost jobs", requeued=[str(item) for item in requeued], failed=[str(item) for item in failed])

    def _ring(self) -> None:
        if self._settings.broker_url is None:
            return
        for device in DEVICES:
            with self._database.write() as session:
                ids = rings.to_ring(session, device=device, older_than_s=self._settings.lease_s, limit=queue.ENOUGH)
            queue.ring(self._settings, {device: ids})

    def _sweep(self) -> None:
        """Remove scratch folders and unfinished files of attempts that have ended, and what dead workers left."""
        temporary.sweep(self._settings.data_dir)
        folders, partials = Scratch(self._settings.data_dir).left(), FileStore(self._settings.data_dir).left()
        FileStore(self._settings.data_dir).sweep(older_than_s=_PARTIAL_S)
        ids = {attempt.job for attempt, _ in (*folders, *partials)}
        if not ids:
            return
        with self._database.read() as session:
            running = select(Job.id, Job.attempt).where(Job.id.in_(ids), Job.state == State.RUNNING)
            alive = {Attempt(*row) for row in session.execute(running)}
        for attempt, folder in folders:
            if attempt not in alive:
                shutil.rmtree(folder, ignore_errors=True)
        for attempt, partial in partials:
            if attempt not in alive:
                partial.unlink(missing_ok=True)


def main() -> None:
    """Look several times a lease until told to stop."""
    looks.until_told(
        "reaper", lambda settings, database: [looks.Duty("reaper", Reaper(settings, database).look, look_s(settings))]
    )


if __name__ == "__main__":
    main()
