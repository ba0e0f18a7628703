"""Rings for jobs that have become ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app import queue
from app.db import rings

if TYPE_CHECKING:
    from app.db.jobs import Claim
    from app.db.session import Database
    from app.settings import Settings

_log = structlog.get_logger()


def ring_released(database: Database, settings: Settings, claim: Claim) -> None:
    """Ring for what waited for this job's end; without a broker the pollers find it by themselves.

    A database that does not answer is logged, never raised: the reaper rings too.
    """
    if settings.broker_url is None:
        return
    try:
        with database.read() as session:
            free = rings.released(session, claim)
    except SQLAlchemyError as error:
        _log.warning("not rung for what waited", error=str(error))
        return
    queue.ring(settings, free)
