"""Changes of jobs' states in an order in which a reader can follow them without a gap.

Every change numbers its job (``jobs.change``). On Postgres the number is that of the transaction, and a reader leaves
out what is as new as the oldest transaction that still runs: that one may yet commit with a smaller number. On SQLite
writers take turns, and each takes the next number.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import BigInteger, Text, cast, func, literal, select, tuple_

from app.db import job_graph
from app.db.tables import Job

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session


class Place(NamedTuple):
    """Up to where a reader has followed: the number of a change, and its job, since one transaction changes several."""

    change: int
    job_id: uuid.UUID


START = Place(0, uuid.UUID(int=0))


@dataclass(frozen=True)
class Changed:
    """A job as its latest change left it."""

    place: Place
    kind: str
    state: str
    attempt: int
    subject: str | None
    comparison_id: uuid.UUID | None
    error: dict[str, Any] | None


_NEWEST = select(
    select(Job.id).order_by(Job.id.desc()).limit(1).scalar_subquery(), select(func.max(Job.change)).scalar_subquery()
)


def newest(connection: Connection) -> tuple[uuid.UUID | None, int | None]:
    """Return the newest job, and the newest change of one: as long as they stay, hardly anything has become ready.

    Made for asking often (``Database.look``): 50 µs. A transaction that commits after one that began later may not
    show, and times that come change nothing, so that who waits for jobs looks for them now and then in any case.
    """
    try:
        job_id, change = connection.execute(_NEWEST).one()
    finally:
        connection.rollback()
    return job_id, change


def since(session: Session, roots: Sequence[uuid.UUID], after: Place, *, all_ended: bool) -> list[Changed]:
    """Return what has changed after a place of these jobs and all that they need, in order, each job once.

    ``all_ended`` says that nothing more is going to change: then nothing is left out for being new.
    """
    reached = job_graph.reached(roots)
    # Compared as a whole: a transaction that changed several jobs may have been read in part.
    later = tuple_(Job.change, Job.id) > tuple_(literal(after.change, BigInteger), literal(after.job_id, Job.id.type))
    rows = select(Job).where(Job.id.in_(select(reached.c.id)), Job.change.is_not(None), later)
    if session.get_bind().dialect.name == "postgresql" and not all_ended:
        oldest = func.pg_snapshot_xmin(func.pg_current_snapshot())
        rows = rows.where(Job.change < cast(cast(oldest, Text), BigInteger))
    # What this session has read of a job before, in another moment of the same transaction, may be out of date.
    read = rows.order_by(Job.change, Job.id).execution_options(populate_existing=True)
    return [_changed(job) for job in session.scalars(read)]


def _changed(job: Job) -> Changed:
    assert job.change is not None  # noqa: S101 - asked for
    subject = (job.payload.get("listing") or {}).get("ref") or job.payload.get("zoo")
    place = Place(job.change, job.id)
    return Changed(place, job.kind, job.state, job.attempt, subject, job.comparison_id, job.error)
