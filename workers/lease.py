"""The heartbeat of a claimed job, on a thread of its own."""

from __future__ import annotations

import threading
import time
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.db import jobs
from app.db.jobs import LeaseLostError
from workers.failures import CancelledError, StoppingError

if TYPE_CHECKING:
    from app.db.jobs import Claim
    from app.db.session import Database
    from workers.stopping import Stop

_log = structlog.get_logger()

_PROGRESS_EVERY_S = 1.0


class Lease:
    """Keeps a claim alive while its attempt runs. Use as a context manager."""

    def __init__(self, database: Database, claim: Claim, *, lease_s: float, stop: Stop) -> None:
        self._database = database
        self._claim = claim
        self._lease_s = lease_s
        self._stop = stop
        self._progress: dict[str, Any] | None = None
        self._changed = False
        self._lost = False
        self._good = time.monotonic()
        self._cancelled = False
        self._ended = threading.Event()
        # A thread begins with an empty context: what it logs would not say which job it is about.
        beat = partial(copy_context().run, self._beat_until_end)
        self._thread = threading.Thread(target=beat, name=f"lease {claim.id}", daemon=True)

    def __enter__(self) -> Self:
        """Start beating."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop beating; the attempt has ended."""
        self._ended.set()
        self._thread.join()

    def report(self, progress: dict[str, Any]) -> None:
        """Note how far the attempt is; the next heartbeat stores it."""
        self._progress = progress
        self._changed = True

    def check(self) -> None:
        """Raise when the attempt must end: LeaseLostError, CancelledError or StoppingError."""
        # The heartbeat may itself be held up by a database that does not answer.
        if self._lost or time.monotonic() - self._good > self._lease_s:
            raise LeaseLostError(f"job {self._claim.id}, attempt {self._claim.attempt}")
        if self._cancelled:
            raise CancelledError
        if self._stop.due():
            raise StoppingError

    def _beat_until_end(self) -> None:
        every = self._lease_s / 3
        beaten = time.monotonic()
        while not self._ended.wait(min(every, _PROGRESS_EVERY_S) / 2):
            now = time.monotonic()
            due = now - beaten >= every or (self._changed and now - beaten >= _PROGRESS_EVERY_S)
            if not due:
                continue
            beaten = now
            try:
                self._beat()
                self._good = now
            except LeaseLostError:
                self._lost = True
                return
            except SQLAlchemyError as error:
                _log.warning("heartbeat failed", error=str(error))
                # Nobody can have been told that this attempt lives; another one may have begun.
                if time.monotonic() - self._good > self._lease_s:
                    return

    def _beat(self) -> None:
        progress, self._changed = self._progress, False
        with self._database.write() as session:
            if jobs.heartbeat(session, self._claim, lease_s=self._lease_s, progress=progress):
                self._cancelled = True
