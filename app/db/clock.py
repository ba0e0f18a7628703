"""The database's own clock: leases must hold between workers whose clocks differ."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import DateTime, func, literal

from app.db.tables import UtcTime, now

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session


def present(session: Session, shift_s: float = 0.0) -> ColumnElement[datetime]:
    """Return the present time of the database, ``shift_s`` seconds later, for use in a statement.

    SQLite has no clock of its own: all of its users are on one machine, since its write-ahead log needs shared memory.
    """
    shift = timedelta(seconds=shift_s)
    if session.get_bind().dialect.name == "postgresql":
        clock: ColumnElement[datetime] = func.clock_timestamp(type_=DateTime(timezone=True))
        return clock + shift
    return literal(now() + shift, UtcTime())
