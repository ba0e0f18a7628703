"""Keyset pages: each page begins after the last row of the one before, so that rows added meanwhile shift nothing."""

from __future__ import annotations

import base64
import binascii
import json
import math
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import and_, or_

from app.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import InstrumentedAttribute, Session

Row = TypeVar("Row")
Value = float | str | datetime | None

MAX_LIMIT = 200
"""Rows of the largest page."""


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows in order, and the cursor of the page after them; None when this is the last."""

    items: list[Row]
    next_cursor: str | None

    def map(self, change: Callable[[Row], dict[str, Any]]) -> dict[str, Any]:
        """Return this page as JSON, each row changed by ``change``."""
        return {"items": [change(row) for row in self.items], "next_cursor": self.next_cursor}


@dataclass(frozen=True)
class Order:
    """A sort column and its direction; ties go by id in the same direction, rows without a value come last."""

    name: str
    column: InstrumentedAttribute[Any]
    id: InstrumentedAttribute[uuid.UUID]
    descending: bool = False

    @classmethod
    def parse(cls, text: str, columns: dict[str, InstrumentedAttribute[Any]], row_id: Any) -> Order:  # noqa: ANN401
        """Read ``column`` or ``-column``; raises InvalidError for a column that is not in ``columns``."""
        name = text.removeprefix("-")
        if name not in columns:
            known = ", ".join(f"{item}, -{item}" for item in columns)
            raise InvalidError(f"sort={text!r} is unknown; sort by one of {known}.", slug="unknown-sort")
        return cls(text, columns[name], row_id, descending=text.startswith("-"))

    def by(self) -> tuple[ColumnElement[Any], ...]:
        """Return the ORDER BY terms. ``IS NULL`` first, because databases disagree on where nulls belong."""
        if self.descending:
            return (self.column.is_(None), self.column.desc(), self.id.desc())
        return (self.column.is_(None), self.column.asc(), self.id.asc())

    def after(self, value: Value, row_id: uuid.UUID) -> ColumnElement[bool]:
        """Return the condition that a row comes after the row with these values."""
        beyond_id = self.id < row_id if self.descending else self.id > row_id
        if value is None:
            return and_(self.column.is_(None), beyond_id)
        beyond = self.column < value if self.descending else self.column > value
        return or_(beyond, and_(self.column == value, beyond_id), self.column.is_(None))


def page(session: Session, statement: Select[Row], order: Order, *, cursor: str | None, limit: int) -> Page[Row]:
    """Return one page of an entity's rows. Raises InvalidError for a cursor that was not made here for this order."""
    if cursor is not None:
        value, row_id = _decode(cursor, order)
        statement = statement.where(order.after(value, row_id))
    rows = list(session.scalars(statement.order_by(*order.by()).limit(limit + 1)))
    more = len(rows) > limit
    rows = rows[:limit]
    following = _encode(order, getattr(rows[-1], order.column.key), getattr(rows[-1], order.id.key)) if more else None
    return Page(rows, following)


def _encode(order: Order, value: Value, row_id: uuid.UUID) -> str:
    # repr() keeps every float, also one that JSON has no word for.
    words = {float: repr, int: repr, datetime: datetime.isoformat}
    written = None if value is None else words.get(type(value), str)(value)  # type: ignore[operator]
    text = json.dumps([order.name, written, str(row_id)], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str, order: Order) -> tuple[Value, uuid.UUID]:
    refused = InvalidError(
        "The cursor is not one that this list gave for this sort order; start again without a cursor.",
        slug="malformed-cursor",
    )
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        name, written, row_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if name != order.name or not isinstance(written, str | None):
            raise refused
        return None if written is None else _read(written, order.column), uuid.UUID(row_id)
    except (binascii.Error, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise refused from error


def _read(written: str, column: InstrumentedAttribute[Any]) -> Value:
    kind = column.type.python_type
    if issubclass(kind, datetime):
        time = datetime.fromisoformat(written)
        if time.tzinfo is None:
            raise ValueError("a time without a zone")
        return time
    if issubclass(kind, float | int):
        number = float(written)
        if math.isnan(number):
            raise ValueError("no row sorts after NaN")
        return number
    if "\0" in written:
        raise ValueError("no text holds a zero character")
    return written
