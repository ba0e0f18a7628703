"""Which jobs to ring for: those that have become ready, and those that nobody came for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exists, or_, select, update

from app.db.clock import present
from app.db.jobs import ready
from app.db.tables import Job, JobNeed
from app.domain.states import JobKind

if TYPE_CHECKING:
    import uuid

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from app.db.jobs import Claim


def to_ring(session: Session, *, device: str, older_than_s: float, limit: int) -> list[uuid.UUID]:
    """Return the most urgent ready jobs that nobody was rung for lately, and note that they are being rung now.

    A few are enough, whatever waits: who comes for one stays until nothing is ready.
    """
    quiet = or_(Job.rung_at.is_(None), Job.rung_at < present(session, -older_than_s))
    waiting = select(Job.id).where(ready(session), Job.device == device, quiet)
    ids = list(session.scalars(waiting.order_by(Job.priority.desc(), Job.created_at, Job.id).limit(limit)))
    if ids:
        rung = update(Job).where(Job.id.in_(ids)).values(rung_at=present(session))
        session.execute(rung.execution_options(synchronize_session=False))
    return ids


def released(session: Session, claim: Claim) -> dict[str, list[uuid.UUID]]:
    """Return by device the ready jobs that the end of this one may have set free.

    Those that needed it, and those that it added: an audit's when it has expanded one, a zoo's when it indexed one, a
    data set's shards when it divided one.
    """
    free: ColumnElement[bool] = exists().where(JobNeed.job_id == Job.id, JobNeed.needs_id == claim.id)
    if claim.kind == JobKind.EXPAND:
        free = or_(free, Job.audit_id == claim.audit_id)
    if claim.kind in {JobKind.INDEX, JobKind.PREDICT}:
        free = or_(free, Job.id.in_(select(JobNeed.needs_id).where(JobNeed.job_id == claim.id)))
    found: dict[str, list[uuid.UUID]] = {}
    for job_id, device in session.execute(select(Job.id, Job.device).where(ready(session), free)):
        found.setdefault(device, []).append(job_id)
    return found
