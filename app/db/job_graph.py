"""Jobs and all that they need, directly or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from app.db.tables import Job, JobNeed

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from sqlalchemy import CTE
    from sqlalchemy.orm import Session


def closure(session: Session, job_ids: Sequence[uuid.UUID]) -> list[Job]:
    """Return these jobs and everything that they need, directly or not."""
    return list(session.scalars(select(Job).where(Job.id.in_(select(reached(job_ids).c.id)))))


def reached_each(job_ids: Sequence[uuid.UUID]) -> CTE:
    """Return such an expression of each of these jobs by itself, columns ``root`` and ``id``."""
    found = select(Job.id.label("root"), Job.id).where(Job.id.in_(job_ids)).cte("reached", recursive=True)
    return found.union(select(found.c.root, JobNeed.needs_id).join(found, JobNeed.job_id == found.c.id))


def reached(job_ids: Sequence[uuid.UUID]) -> CTE:
    """Return a recursive common table expression, column ``id``, of these jobs and all that they need."""
    found = select(Job.id).where(Job.id.in_(job_ids)).cte("reached", recursive=True)
    return found.union(select(JobNeed.needs_id).join(found, JobNeed.job_id == found.c.id))
