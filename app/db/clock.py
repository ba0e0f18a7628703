"""Times in the database: with a zone, and where workers' clocks may differ, the database's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import DateTime, Dialect, TypeDecorator, func, literal

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session


def now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(UTC)


class NaiveTimeError(ValueError):
    """A time without a zone was about to be stored."""


class UtcTime(TypeDecorator[datetime]):
    """Times with a zone in and out, also on SQLite, which forgets the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        """What values are, which a decorator does not tell by itself; cursors of pages ask."""
        return datetime

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Refuse naive times, store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise NaiveTimeError(f"{value!r} has no time zone; use datetime.now(UTC).")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give back UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def present(session: Session, shift_s: float = 0.0) -> ColumnElement[datetime]:
    """Return the present time of the database, ``shift_s`` seconds later, for use in a statement.

    SQLite has no clock of its own: all of its users are on one machine, since its write-ahead log needs shared memory.
    """
    shift = timedelta(seconds=shift_s)
    if session.get_bind().dialect.name == "postgresql":
        clock: ColumnElement[datetime] = func.clock_timestamp(type_=DateTime(timezone=True))
        return clock + shift if shift else clock
    return literal(now() + shift, UtcTime())
