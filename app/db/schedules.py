"""Schedules and their runs. A due time is tied to its audit in the transaction that submits it."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from app.db.clock import present
from app.db.paging import Listed
from app.db.schedule_tables import Schedule, ScheduledRun
from app.db.tables import Audit
from app.domain.ids import new_id
from app.domain.states import State
from app.errors import ConflictError

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from app.db.paging import Page, Selection


def clock(session: Session) -> datetime:
    """Return the database's time, which all schedulers share."""
    return session.execute(select(present(session))).scalar_one().astimezone(UTC)


def add(session: Session, schedule: Schedule) -> None:
    """Store a schedule, or what was changed of it; raises ConflictError when its name is taken."""
    name = schedule.name
    try:
        with session.begin_nested():
            session.add(schedule)
            session.flush()
    except IntegrityError as error:
        raise ConflictError(
            f"There is a schedule {name!r} already; give this one another name.", slug="schedule-exists"
        ) from error


def get(session: Session, schedule_id: uuid.UUID, *, to_change: bool = False) -> Schedule | None:
    """Return one schedule; ``to_change`` keeps schedulers away from it until the transaction ends."""
    statement = select(Schedule).where(Schedule.id == schedule_id)
    return session.scalar(statement.with_for_update() if to_change else statement)


def by_name(session: Session, name: str) -> Schedule | None:
    """Return the schedule of this name."""
    return session.scalar(select(Schedule).where(Schedule.name == name))


LISTED = Listed(
    Schedule,
    Schedule.id,
    sorts={"name": Schedule.name, "next_due_at": Schedule.next_due_at, "created_at": Schedule.created_at},
    sort="name",
    filters={"enabled": None},
)

RUNS = Listed(
    ScheduledRun,
    ScheduledRun.id,
    sorts={"due_at": ScheduledRun.due_at},
    sort="-due_at",
    filters={"schedule_id": None, "refused": lambda refused: ScheduledRun.audit_id.is_(None) == refused},
)


def remove(session: Session, schedule_id: uuid.UUID) -> bool:
    """Delete a schedule and what ties its audits to it; say whether there was one."""
    gone = session.scalar(delete(Schedule).where(Schedule.id == schedule_id).returning(Schedule.id))
    return gone is not None


def due(session: Session, at: datetime) -> list[uuid.UUID]:
    """Return the schedules that have come due at a time, the longest due first."""
    statement = select(Schedule.id).where(Schedule.next_due_at <= at)
    return list(session.scalars(statement.order_by(Schedule.next_due_at, Schedule.id)))


def take_due(session: Session, schedule_id: uuid.UUID, at: datetime) -> Schedule | None:
    """Return a schedule that is due, for this transaction alone; None when another has it or has dealt with it."""
    statement = select(Schedule).where(Schedule.id == schedule_id, Schedule.next_due_at <= at)
    return session.scalar(statement.with_for_update(skip_locked=True))


def claim(session: Session, schedule_id: uuid.UUID, due_at: datetime, *, at: datetime) -> uuid.UUID | None:
    """Store that a due time runs; return the run's id, None when it ran already."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    values = {"id": new_id(), "schedule_id": schedule_id, "due_at": due_at, "started_at": at}
    statement = insert(ScheduledRun).values(**values).on_conflict_do_nothing().returning(ScheduledRun.id)
    return session.scalar(statement)


def ran(session: Session, run_id: uuid.UUID, *, audit_id: uuid.UUID | None, error: dict[str, Any] | None) -> None:
    """Store what a run led to."""
    run = session.get_one(ScheduledRun, run_id)
    run.audit_id, run.error = audit_id, error
    session.flush()


def runs(session: Session, schedule_id: uuid.UUID, wanted: Selection) -> Page[ScheduledRun]:
    """Return a page of a schedule's runs."""
    return RUNS.page(session, wanted.within(schedule_id=schedule_id))


def last_runs(session: Session, schedule_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, ScheduledRun]:
    """Return the latest run of each of these schedules that has one."""
    newest = (
        select(ScheduledRun.schedule_id, func.max(ScheduledRun.due_at).label("due_at"))
        .where(ScheduledRun.schedule_id.in_(schedule_ids))
        .group_by(ScheduledRun.schedule_id)
        .subquery()
    )
    same = (ScheduledRun.schedule_id == newest.c.schedule_id) & (ScheduledRun.due_at == newest.c.due_at)
    return {run.schedule_id: run for run in session.scalars(select(ScheduledRun).join(newest, same))}


def last_audit(session: Session, schedule_id: uuid.UUID) -> Audit | None:
    """Return the latest audit of a schedule."""
    of_schedule = select(Audit).join(ScheduledRun, ScheduledRun.audit_id == Audit.id)
    wanted = of_schedule.where(ScheduledRun.schedule_id == schedule_id)
    return session.scalar(wanted.order_by(ScheduledRun.due_at.desc()).limit(1))


def run_of(session: Session, audit_id: uuid.UUID) -> ScheduledRun | None:
    """Return the run that an audit belongs to; None for one that no schedule asked for."""
    return session.scalar(select(ScheduledRun).where(ScheduledRun.audit_id == audit_id))


def finished_before(session: Session, run: ScheduledRun) -> uuid.UUID | None:
    """Return the latest audit of the same schedule that was due before this run and has a summary."""
    wanted = select(ScheduledRun.audit_id).join(Audit, Audit.id == ScheduledRun.audit_id)
    wanted = wanted.where(ScheduledRun.schedule_id == run.schedule_id, ScheduledRun.due_at < run.due_at)
    wanted = wanted.where(Audit.state == State.SUCCEEDED)
    return session.scalar(wanted.order_by(ScheduledRun.due_at.desc()).limit(1))
