"""What is kept for a limited time: raw files of measurements, idempotency keys, events with their deliveries.

Results, verdicts, findings and the rows of measurements are kept for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import CursorResult, Text, and_, cast, delete, func, or_, select, tuple_, update
from sqlalchemy.orm import aliased

from app.db.clock import present
from app.db.tables import IdempotencyKey, Job, JobNeed, Measurement
from app.db.webhook_tables import WebhookEvent
from app.domain.states import JobKind

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy import ColumnElement, Delete
    from sqlalchemy.orm import Session

    from app.settings import Settings

RAW = (JobKind.INSPECT, JobKind.PREDICT, JobKind.SHARD, JobKind.LATENCY)
"""Kinds of measurements whose files can be had again by measuring again. What was imported cannot."""

_DAY_S = 86400.0


def raw_files(session: Session, *, days: float, limit: int) -> list[str]:
    """Return the SHA-256 of files that no measurement needs any more, of some measurements, and mark those.

    A measurement needs its files until it was made and last reused so many days ago. One that is being reused at this
    moment is passed over.
    """
    old = select(Measurement.id, Measurement.files).where(_raw_is_old(session, days)).order_by(Measurement.created_at)
    rows = session.execute(old.limit(limit).with_for_update(skip_locked=True)).all()
    if not rows:
        return []
    marked = update(Measurement).where(Measurement.id.in_([row.id for row in rows]))
    session.execute(marked.values(files_deleted_at=present(session)).execution_options(synchronize_session=False))
    found = {sha256 for row in rows for sha256 in row.files.values()}
    imported = session.scalars(select(Measurement.files).where(Measurement.kind == JobKind.IMPORT))
    return sorted(found - {sha256 for files in imported for sha256 in files.values()})


def used(session: Session, measurement: Measurement) -> None:
    """Note that a measurement is reused, to the day, so that its files are kept longer."""
    stale = or_(Measurement.files_used_at.is_(None), Measurement.files_used_at < present(session, -_DAY_S / 4))
    statement = update(Measurement).where(Measurement.id == measurement.id, stale)
    session.execute(statement.values(files_used_at=present(session)).execution_options(synchronize_session=False))


def deleted_at(session: Session, comparison_id: uuid.UUID) -> datetime | None:
    """Return when raw files that a comparison was made from were last deleted; None when none were."""
    needed = aliased(Job)
    return session.scalar(
        select(func.max(Measurement.files_deleted_at))
        .join(needed, needed.measurement_id == Measurement.id)
        .join(JobNeed, JobNeed.needs_id == needed.id)
        .join(Job, Job.id == JobNeed.job_id)
        .where(Job.comparison_id == comparison_id, Job.kind == JobKind.COMPARE)
    )


def _raw_is_old(session: Session, days: float) -> ColumnElement[bool]:
    before = present(session, -days * _DAY_S)
    return and_(
        Measurement.files_deleted_at.is_(None),
        Measurement.created_at < before,
        or_(Measurement.files_used_at.is_(None), Measurement.files_used_at < before),
        Measurement.kind.in_(RAW),
        cast(Measurement.files, Text) != "{}",
    )


def idempotency_keys(session: Session, *, days: float, limit: int) -> int:
    """Delete some idempotency keys older than so many days; return how many."""
    row = tuple_(IdempotencyKey.client, IdempotencyKey.key)
    old = select(IdempotencyKey.client, IdempotencyKey.key).where(_key_is_old(session, days)).limit(limit)
    return _deleted(session, delete(IdempotencyKey).where(row.in_(old.with_for_update(skip_locked=True))))


def _key_is_old(session: Session, days: float) -> ColumnElement[bool]:
    return IdempotencyKey.created_at < present(session, -days * _DAY_S)


def events(session: Session, *, days: float, limit: int) -> int:
    """Delete some events older than so many days, with their deliveries; return how many."""
    old = select(WebhookEvent.id).where(_event_is_old(session, days)).limit(limit).with_for_update(skip_locked=True)
    return _deleted(session, delete(WebhookEvent).where(WebhookEvent.id.in_(old)))


def _event_is_old(session: Session, days: float) -> ColumnElement[bool]:
    return WebhookEvent.created_at < present(session, -days * _DAY_S)


def _deleted(session: Session, statement: Delete) -> int:
    result = session.execute(statement.execution_options(synchronize_session=False))
    assert isinstance(result, CursorResult)  # noqa: S101 - a DELETE has a row count
    return result.rowcount


def overdue(session: Session, settings: Settings) -> Iterator[tuple[str, int]]:
    """Yield what is kept for a limited time, and how many rows of it have outlived that."""
    kept: tuple[tuple[str, Any, Any, float | None], ...] = (
        ("raw_files", Measurement, _raw_is_old, settings.keep_raw_days),
        ("idempotency_keys", IdempotencyKey, _key_is_old, settings.keep_idempotency_days),
        ("webhook_events", WebhookEvent, _event_is_old, settings.keep_deliveries_days),
    )
    for name, table, is_old, days in kept:
        if days is not None:
            counted = select(func.count()).select_from(table).where(is_old(session, days))
            yield name, session.scalar(counted) or 0
