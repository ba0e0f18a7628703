"""How far queued work is, and what may be cancelled with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, func, or_, select

from app.db import job_graph, jobs
from app.db.tables import Job, JobNeed
from app.domain.states import FINAL, State

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from sqlalchemy.orm import Session


_RUNNING = Job.state == State.RUNNING
_TELLS = or_(_RUNNING, and_(Job.state == State.QUEUED, Job.error.is_not(None)))
_COUNT = (func.count(), func.sum(case((Job.state.in_(FINAL), 1), else_=0)))
_COUNTED = select(*_COUNT, func.sum(case((_TELLS, 1), else_=0)))
_TOLD = select(Job).where(_TELLS).order_by(_RUNNING.desc(), Job.started_at.desc())


NOTHING = {"done": 0, "total": 0, "message": None}
"""How far something without jobs is."""


def progress(session: Session, roots: Sequence[uuid.UUID]) -> dict[str, Any]:
    """Return ``{"done", "total", "message"}`` of these jobs and all that they need.

    ``message`` says what one running job is at, else why one waits to be tried again; None when neither is so.
    """
    reached = job_graph.reached(roots)
    of_roots = Job.id.in_(select(reached.c.id))
    total, done, tells = session.execute(_COUNTED.where(of_roots)).one()
    current = session.scalar(_TOLD.where(of_roots).limit(1)) if tells else None
    return {"done": done or 0, "total": total, "message": None if current is None else _message(current)}


def each(session: Session, roots: Sequence[uuid.UUID]) -> dict[uuid.UUID, dict[str, Any]]:
    """Return by job ``progress`` of that one alone."""
    reached = job_graph.reached_each(roots)
    of_root = select(reached.c.root).join(Job, Job.id == reached.c.id).group_by(reached.c.root)
    found = {
        root: {"done": done, "total": total} for root, total, done in session.execute(of_root.add_columns(*_COUNT))
    }
    messages: dict[uuid.UUID, str] = {}
    told = _TOLD.join(reached, Job.id == reached.c.id).add_columns(reached.c.root)
    for job, root in session.execute(told):
        messages.setdefault(root, _message(job))
    return {root: counts | {"message": messages.get(root)} for root, counts in found.items()}


def states(session: Session, roots: Sequence[uuid.UUID]) -> dict[State, int]:
    """Return how many of these jobs and all that they need are in which state."""
    reached = job_graph.reached(roots)
    counted = select(Job.state, func.count()).where(Job.id.in_(select(reached.c.id))).group_by(Job.state)
    return {State(state): number for state, number in session.execute(counted)}


def _message(job: Job) -> str:
    subject = (job.payload.get("listing") or {}).get("ref") or job.payload.get("zoo") or ""
    if job.state == State.QUEUED:
        return f"{job.kind} {subject} is tried again: {(job.error or {}).get('message', '')}"
    stage = (job.progress or {}).get("message") or ""
    # Some say themselves what they are at.
    kind = "" if stage.startswith(job.kind) else job.kind
    return " ".join(part for part in (kind, subject, stage) if part)


def cancel(session: Session, roots: Sequence[uuid.UUID]) -> None:
    """Cancel these jobs and what they need, except what another live job needs too."""
    found = {job.id for job in job_graph.closure(session, roots) if job.state not in FINAL}
    # Who joins one of these meanwhile waits, and adds a job of its own if this one is then cancelled.
    jobs.hold(session, found)
    edges = session.execute(
        select(JobNeed.needs_id, JobNeed.job_id)
        .join(Job, Job.id == JobNeed.job_id)
        .where(JobNeed.needs_id.in_(found), Job.state.not_in(FINAL))
    ).all()
    # A job that stays keeps what it needs: repeat until nothing more stays.
    while kept := {needed for needed, by in edges if needed in found and by not in found} - set(roots):
        found -= kept
    jobs.request_cancel(session, sorted(found))
