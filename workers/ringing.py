"""Rings for jobs that have become ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app import queue
from app.db import jobs

if TYPE_CHECKING:
    from app.db.jobs import Claim
    from app.db.session import Database
    from app.settings import Settings


def ring_released(database: Database, settings: Settings, claim: Claim) -> None:
    """Ring for what waited for this job's end; without a broker the pollers find it by themselves."""
    if settings.broker_url is None:
        return
    with database.read() as session:
        free = jobs.released(session, claim)
    queue.ring(settings, free)
