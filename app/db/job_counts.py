"""Jobs in numbers: how many wait, run and have ended, for how long, at which attempt.

What is active is found by its state, what has ended by when: neither query looks at jobs that ended long ago.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Float, and_, case, func, or_, select
from sqlalchemy.orm import aliased

from app.db.clock import present
from app.db.tables import Job, JobNeed
from app.domain.states import FINAL, State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Queued:
    """Queued jobs of one kind and device class.

    ``waiting`` ones wait for other jobs or to be tried again; ``ready_since`` is when the first of the others could
    have been claimed.
    """

    kind: str
    device: str
    ready: int
    waiting: int
    ready_since: datetime | None


@dataclass(frozen=True)
class Running:
    """Running jobs of one kind and device class; ``expired`` ones have a lease that has ended."""

    kind: str
    device: str
    jobs: int
    expired: int


@dataclass(frozen=True)
class Attempts:
    """Claims and lost leases of jobs of one kind."""

    kind: str
    attempts: int
    lease_losses: int


@dataclass(frozen=True)
class Ended:
    """Jobs that ended alike.

    ``bucket`` is the index of the first bound that their time did not pass, the number of bounds for longer ones, and
    None for jobs without a time: cancelled or never started. ``seconds`` is the sum of their times.
    """

    kind: str
    state: State
    failure_class: str | None
    bucket: int | None
    jobs: int
    seconds: float
    attempts: int
    lease_losses: int


def one_view(session: Session) -> None:
    """Make every query of this transaction see the same moment: no job is counted twice while it moves."""
    if session.get_bind().dialect.name == "postgresql":  # a reading transaction of SQLite is so anyway
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def time(session: Session) -> datetime:
    """Return the database's time."""
    return session.execute(select(present(session))).scalar_one()


def queued(session: Session) -> list[Queued]:
    """Count the queued jobs."""
    needed = aliased(Job)
    # Aggregates are looked up job by job; for a join or EXISTS a planner may rather read every job there is.
    needs = select(JobNeed.needs_id).where(JobNeed.job_id == Job.id).join(needed, needed.id == JobNeed.needs_id)
    waits_for = needs.with_only_columns(func.count()).where(needed.state.not_in(FINAL)).correlate(Job)
    last_need = needs.with_only_columns(func.max(needed.finished_at)).correlate(Job)
    found = select(
        Job.kind,
        Job.device,
        Job.available_at,
        last_need.scalar_subquery().label("last_need"),
        and_(Job.available_at <= present(session), waits_for.scalar_subquery() == 0).label("ready"),
    )
    each = found.where(Job.state == State.QUEUED).subquery().c
    ready = func.sum(case((each.ready, 1), else_=0))
    since = case((each.last_need > each.available_at, each.last_need), else_=each.available_at)
    rows = session.execute(
        select(each.kind, each.device, ready, func.count() - ready, func.min(case((each.ready, since)))).group_by(
            each.kind, each.device
        )
    )
    return [Queued(*row) for row in rows]


def running(session: Session) -> list[Running]:
    """Count the running jobs."""
    expired = func.sum(case((Job.lease_until < present(session), 1), else_=0))
    rows = session.execute(
        select(Job.kind, Job.device, func.count(), expired)
        .where(Job.state == State.RUNNING)
        .group_by(Job.kind, Job.device)
    )
    return [Running(*row) for row in rows]


def attempts(session: Session) -> list[Attempts]:
    """Count claims and lost leases of the jobs that have not ended."""
    rows = session.execute(
        select(Job.kind, func.sum(Job.attempt), func.sum(Job.lease_losses))
        .where(or_(Job.state == State.QUEUED, Job.state == State.RUNNING))
        .group_by(Job.kind)
    )
    return [Attempts(*row) for row in rows]


def unfinished(session: Session, team: str, *, most: int) -> int:
    """Count the jobs of a team that have not ended, up to so many."""
    some = select(Job.id).where(Job.state.in_((State.QUEUED, State.RUNNING)), Job.team == team).limit(most).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


def ended(session: Session, bounds: Sequence[float], *, since: datetime | None, until: datetime | None) -> list[Ended]:
    """Count the jobs that ended from ``since`` until before ``until``; None leaves that side open.

    Their time is that of the last attempt, from its claim to the end of the job.
    """
    # A queued job that is cancelled may have been tried before: what lies between is no time of work.
    timed = and_(Job.state != State.CANCELLED, Job.started_at.is_not(None))
    each = select(
        Job.kind,
        Job.state,
        Job.failure_class,
        Job.attempt,
        Job.lease_losses,
        case((timed, _seconds(session))).label("seconds"),
    ).where(Job.finished_at.is_not(None))
    if since is not None:
        each = each.where(Job.finished_at >= since)
    if until is not None:
        each = each.where(Job.finished_at < until)
    found = each.subquery().c
    passed = [(found.seconds <= bound, index) for index, bound in enumerate(bounds)]
    alike = (
        found.kind,
        found.state,
        found.failure_class,
        case((found.seconds.is_(None), None), *passed, else_=len(bounds)).label("bucket"),
    )
    sums = [func.coalesce(func.sum(each), 0) for each in (found.seconds, found.attempt, found.lease_losses)]
    rows = session.execute(select(*alike, func.count(), *sums).group_by(*alike))
    return [Ended(row[0], State(row[1]), *row[2:]) for row in rows]


def _seconds(session: Session) -> ColumnElement[float]:
    if session.get_bind().dialect.name == "postgresql":
        return func.extract("epoch", Job.finished_at - Job.started_at).cast(Float)
    return (func.julianday(Job.finished_at) - func.julianday(Job.started_at)).cast(Float) * 86400.0
