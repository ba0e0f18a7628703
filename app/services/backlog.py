"""How much work each team may have under way, so that none fills the queue with its own."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

from app.db import job_counts
from app.errors import TooManyRequestsError

if TYPE_CHECKING:
    from app.db.session import Database

COUNTED_S = 1.0
"""Seconds that a count is believed. What other processes let in meanwhile comes on top of what is allowed."""

_RETRY_S = 30


class Backlog:
    """The jobs of each team that have not ended, as this process last counted them. Safe for several threads."""

    def __init__(self, database: Database, most: int) -> None:
        self._database, self._most = database.of(None), most
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self._counted: dict[str, tuple[float, int]] = {}

    def enter(self, team: str) -> bool:
        """Let a submission of a team in; False when its jobs have to be counted first. Raises TooManyRequestsError."""
        with self._lock:
            at, jobs = self._counted.get(team, (-math.inf, 0))
            if time.monotonic() - at >= COUNTED_S:
                return False
            if jobs < self._most:
                # At least one, until they are counted again.
                self._counted[team] = (at, jobs + 1)
                return True
        raise TooManyRequestsError(
            f"Team {team} has {self._most:,} jobs or more that have not ended, and ZOOAUDIT_TEAM_JOBS allows no more; "
            f"try again in {_RETRY_S} s, or cancel something.",
            slug="queue-full",
            headers={"Retry-After": str(_RETRY_S)},
        )

    def count(self, team: str) -> None:
        """Count the jobs of a team, once for all who come here at once. Asks the database."""
        with self._counting:
            at, _ = self._counted.get(team, (-math.inf, 0))
            if time.monotonic() - at < COUNTED_S:
                return
            with self._database.read() as session:
                jobs = job_counts.unfinished(session, team, most=self._most)
            with self._lock:
                self._counted[team] = (time.monotonic(), jobs)
