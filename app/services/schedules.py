"""Schedules: keep them, and submit the audits of those that are due. The caller owns the transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.db import audit_rows, schedules
from app.db.schedule_tables import Schedule
from app.db.teams import as_team
from app.domain.ids import new_id
from app.domain.schedules import InvalidScheduleError, Missed, check, following, to_run
from app.domain.states import FINAL, FailureClass
from app.errors import InvalidError, NotFoundError, ServiceError
from app.services import audits
from app.services.submission import Caller, earlier

if TYPE_CHECKING:
    import uuid
    from datetime import datetime

    from sqlalchemy.orm import Session

    from app.db.paging import Selection
    from app.db.schedule_tables import ScheduledRun
    from app.settings import Settings


@dataclass(frozen=True)
class Run:
    """A due time that was dealt with: its audit and the jobs to ring for after the commit, or why there is none."""

    due_at: datetime
    audit_id: uuid.UUID | None
    error: dict[str, Any] | None
    ring: dict[str, list[uuid.UUID]] = field(default_factory=dict)


def create(session: Session, settings: Settings, request: dict[str, Any], caller: Caller) -> dict[str, Any]:
    """Store a schedule ``{name, cron, time_zone, missed, enabled, request}`` and return it as JSON.

    Raises InvalidError for what could never run, ConflictError for a name that is taken.
    """
    schedule_id = new_id()
    if before := earlier(session, caller, kind="schedule", request=request, resource_id=schedule_id):
        return show(session, before)
    schedule = Schedule(id=schedule_id, **request)
    audits.check(session, settings, schedule.request)
    _check_times(schedule)
    _set_due(session, schedule)
    schedules.add(session, schedule)
    return show(session, schedule_id)


def change(session: Session, settings: Settings, schedule_id: uuid.UUID, changed: dict[str, Any]) -> dict[str, Any]:
    """Change some fields of a schedule and return it as JSON; raises as ``create`` does.

    With another expression or time zone, and when it is enabled again, it comes due from now on: nothing has been
    missed.
    """
    schedule = _row(session, schedule_id, to_change=True)
    changed = {name: value for name, value in changed.items() if value != getattr(schedule, name)}
    with session.no_autoflush:
        for name, value in changed.items():
            setattr(schedule, name, value)
        # What stays is not checked again: a schedule whose zoo is gone can still be disabled.
        if "request" in changed:
            audits.check(session, settings, schedule.request)
        if changed.keys() & {"cron", "time_zone"}:
            _check_times(schedule)
        if changed.keys() & {"cron", "time_zone", "enabled"}:
            _set_due(session, schedule)
        schedule.changed_at = schedules.clock(session)
    schedules.add(session, schedule)
    return show(session, schedule_id)


def _check_times(schedule: Schedule) -> None:
    try:
        check(schedule.cron, schedule.time_zone)
    except InvalidScheduleError as error:
        raise InvalidError(str(error), slug="invalid-schedule") from error


def _set_due(session: Session, schedule: Schedule) -> None:
    at = schedules.clock(session)
    schedule.next_due_at = following(schedule.cron, schedule.time_zone, at) if schedule.enabled else None


def remove(session: Session, schedule_id: uuid.UUID) -> None:
    """Delete a schedule; its audits stay. Raises NotFoundError."""
    if not schedules.remove(session, schedule_id):
        raise _missing(schedule_id)


def show(session: Session, schedule_id: uuid.UUID) -> dict[str, Any]:
    """Return a schedule as JSON; raises NotFoundError."""
    row = _row(session, schedule_id)
    return _to_json(session, row, schedules.last_runs(session, [row.id]).get(row.id))


def named(session: Session, name: str) -> uuid.UUID:
    """Return the id of the schedule of this name; raises NotFoundError."""
    row = schedules.by_name(session, name)
    if row is None:
        raise NotFoundError(f"There is no schedule {name!r}; `zooaudit schedules list` lists what there is.")
    return row.id


def find(session: Session, wanted: Selection) -> dict[str, Any]:
    """Return a page of the schedules that are wanted as JSON."""
    found = schedules.LISTED.page(session, wanted)
    last = schedules.last_runs(session, [row.id for row in found.items])
    return found.map(lambda row: _to_json(session, row, last.get(row.id)))


def runs(session: Session, schedule_id: uuid.UUID, wanted: Selection) -> dict[str, Any]:
    """Return a page of a schedule's runs as JSON; raises NotFoundError."""
    _row(session, schedule_id)
    return schedules.runs(session, schedule_id, wanted).map(lambda row: _run_json(session, row))


def due(session: Session) -> list[uuid.UUID]:
    """Return the schedules whose audit may be submitted now, the longest due first. Needs to read only."""
    return [each for each in schedules.due(session, schedules.clock(session)) if not _busy(session, each)]


def submit_due(session: Session, settings: Settings, schedule_id: uuid.UUID, at: datetime) -> Run | None:
    """Submit the audit of a schedule that is due at a time; None when there is nothing to submit.

    That is: another scheduler has it, the audit before is still running (it waits, and ``missed`` says what becomes
    of the time), or the due time is passed over. An audit that is refused, because a zoo or a data set is gone, is a
    run with that error.
    """
    schedule = schedules.take_due(session, schedule_id, at)
    if schedule is None or schedule.next_due_at is None or _busy(session, schedule_id):
        return None
    cron, time_zone, missed = schedule.cron, schedule.time_zone, Missed(schedule.missed)
    due_at = to_run(cron, time_zone, missed, first=schedule.next_due_at, at=at)
    schedule.next_due_at = following(cron, time_zone, at if due_at is None else due_at)
    session.flush()
    if due_at is None:
        return None
    run_id = schedules.claim(session, schedule_id, due_at, at=at)
    if run_id is None:
        return None
    run = _submit(session, settings, schedule, due_at)
    schedules.ran(session, run_id, audit_id=run.audit_id, error=run.error)
    return run


def _busy(session: Session, schedule_id: uuid.UUID) -> bool:
    """Whether the schedule's last audit has not ended: two of one schedule would only wait for each other."""
    audit = schedules.last_audit(session, schedule_id)
    return audit is not None and audit_rows.shown(session, audit)[0] not in FINAL


def _submit(session: Session, settings: Settings, schedule: Schedule, due_at: datetime) -> Run:
    try:
        with as_team(session, schedule.team), session.begin_nested():
            submitted = audits.submit(session, settings, schedule.request)
    except ServiceError as error:
        return Run(due_at, None, {"class": FailureClass.USAGE, "code": error.slug, "message": error.message})
    return Run(due_at, submitted.id, None, submitted.ring)


def _row(session: Session, schedule_id: uuid.UUID, *, to_change: bool = False) -> Schedule:
    schedule = schedules.get(session, schedule_id, to_change=to_change)
    if schedule is None:
        raise _missing(schedule_id)
    return schedule


def _missing(schedule_id: uuid.UUID) -> NotFoundError:
    return NotFoundError(f"There is no schedule {schedule_id}.")


def _to_json(session: Session, row: Schedule, last: ScheduledRun | None) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "name": row.name,
        "cron": row.cron,
        "time_zone": row.time_zone,
        "missed": row.missed,
        "enabled": row.enabled,
        "request": row.request,
        "next_due_at": row.next_due_at.isoformat() if row.next_due_at else None,
        "last_run": _run_json(session, last) if last else None,
        "created_at": row.created_at.isoformat(),
        "changed_at": row.changed_at.isoformat(),
    }


def _run_json(session: Session, run: ScheduledRun) -> dict[str, Any]:
    audit = audit_rows.get(session, run.audit_id) if run.audit_id else None
    return {
        "due_at": run.due_at.isoformat(),
        "started_at": run.started_at.isoformat(),
        "audit_id": str(audit.id) if audit else None,
        "state": audit_rows.shown(session, audit)[0] if audit else None,
        "error": run.error,
    }
