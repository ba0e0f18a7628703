"""Jobs in numbers, for whoever operates the service; the same from every process, since the database counts."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from app.db import job_counts
from app.domain.states import State

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from app.db.job_counts import Attempts, Ended, Queued, Running
    from app.db.session import Database

BOUNDS_S = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Bounds of the histogram of job times, seconds."""

_SETTLED = timedelta(minutes=10)
"""Time after which no transaction that ends a job is still open: a job's end is set before it is committed."""


@dataclass
class Times:
    """How long jobs took: how many by the index of their bound, and the sum in seconds."""

    buckets: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0


@dataclass
class Tally:
    """Ended jobs by kind, state and failure class; their times by kind and state; claims and lost leases by kind."""

    ended: Counter[tuple[str, State, str | None]] = field(default_factory=Counter)
    times: defaultdict[tuple[str, State], Times] = field(default_factory=lambda: defaultdict(Times))
    attempts: Counter[str] = field(default_factory=Counter)
    lease_losses: Counter[str] = field(default_factory=Counter)

    def add(self, rows: Iterable[Ended]) -> None:
        """Add jobs that have ended."""
        for row in rows:
            self.ended[row.kind, row.state, row.failure_class] += row.jobs
            self.add_attempts(row)
            if row.bucket is not None:
                times = self.times[row.kind, row.state]
                times.buckets[row.bucket] += row.jobs
                times.seconds += row.seconds

    def add_attempts(self, row: Ended | Attempts) -> None:
        """Add claims and lost leases alone."""
        self.attempts[row.kind] += row.attempts
        self.lease_losses[row.kind] += row.lease_losses


@dataclass(frozen=True)
class Counts:
    """What is queued and running at one moment, and what has ended until then."""

    at: datetime
    queued: list[Queued]
    running: list[Running]
    tally: Tally

    def states(self) -> dict[State, int]:
        """Count jobs by state."""
        found = Counter({State.QUEUED: sum(each.ready + each.waiting for each in self.queued)})
        found[State.RUNNING] = sum(each.jobs for each in self.running)
        for (_, state, _), jobs in self.tally.ended.items():
            found[state] += jobs
        return {state: found[state] for state in State}


class JobCounts:
    """Counts the jobs of one database, over and over: what ended long ago is counted once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._settled = Tally()
        self._until: datetime | None = None

    def read(self) -> Counts:
        """Count. Raises SQLAlchemyError when the database does not answer."""
        with self._lock, self._database.read() as session:
            job_counts.one_view(session)
            at = job_counts.time(session)
            until = at - _SETTLED
            self._settled.add(job_counts.ended(session, BOUNDS_S, since=self._until, until=until))
            self._until = until
            tally = deepcopy(self._settled)
            tally.add(job_counts.ended(session, BOUNDS_S, since=until, until=None))
            for row in job_counts.attempts(session):
                tally.add_attempts(row)
            return Counts(at, job_counts.queued(session), job_counts.running(session), tally)
