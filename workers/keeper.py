"""The keeper: deletes what has been kept as long as the settings say, a little at a time.

Part of the scheduler process; any number may run, and none waits for another.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from app.db import retention
from workers.files import FileStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from app.db.session import Database
    from app.settings import Settings

_BATCH = 200
_MOST_BATCHES = 25
"""Of one kind at one look: the rest is deleted at the next."""
_DAY_S = 86400.0

_log = structlog.get_logger()


class Keeper:
    """One look at everything that is kept for a limited time, as often as asked."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._files = FileStore(settings.data_dir)

    def look(self) -> None:
        """Delete what is old, in transactions of a few rows each."""
        chosen = self._settings
        done = {
            "idempotency_keys": self._batches(
                lambda session: retention.idempotency_keys(session, days=chosen.keep_idempotency_days, limit=_BATCH)
            ),
            "webhook_events": self._batches(
                lambda session: retention.events(session, days=chosen.keep_deliveries_days, limit=_BATCH)
            ),
        }
        if chosen.keep_raw_days is not None:
            days = chosen.keep_raw_days
            done["raw_files"] = self._batches(lambda session: self._raw_files(session, days))
        if any(done.values()):
            _log.info("deleted what was kept long enough", **done)

    def _batches(self, delete: Callable[[Session], int]) -> int:
        total = 0
        for _ in range(_MOST_BATCHES):
            with self._database.write() as session:
                deleted = delete(session)
            if deleted == 0:
                break
            total += deleted
        return total

    def _raw_files(self, session: Session, days: float) -> int:
        # Before the commit: what is not marked is looked at again, what is marked never.
        gone = retention.raw_files(session, days=days, limit=_BATCH)
        for sha256 in gone:
            self._files.remove(sha256, unless_since=time.time() - days * _DAY_S)
        return len(gone)
