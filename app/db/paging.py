"""Lists: each says once what it is filtered and sorted by, and is read in keyset pages.

Each page begins after the last row of the one before, so that rows added meanwhile shift nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import literal, select, tuple_, union_all
from sqlalchemy.orm import load_only

from app.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Executable, Select
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
class Selection:
    """What is wanted of a list: filters by name (None leaves one open), a sort or the list's own, where to go on."""

    filters: Mapping[str, Any] = field(default_factory=dict)
    sort: str | None = None
    cursor: str | None = None
    limit: int = 50


@dataclass(frozen=True)
class Order:
    """A sort column and its direction; ties go by id in the same direction, rows without a value come last."""

    name: str
    column: InstrumentedAttribute[Any]
    id: InstrumentedAttribute[uuid.UUID]

    @property
    def descending(self) -> bool:
        """Whether the largest comes first."""
        return self.name.startswith("-")

    def by(self, *columns: ColumnElement[Any]) -> tuple[ColumnElement[Any], ...]:
        """Return the ORDER BY terms, of these columns in place of its own; as plain as an index has them."""
        terms = columns or (self.column, self.id)
        return tuple(term.desc() if self.descending else term.asc() for term in terms)

    def cursor(self, row: object) -> str:
        """Return the cursor of the page after a row."""
        value, row_id = getattr(row, self.column.key), getattr(row, self.id.key)
        # repr() keeps every float, also one that JSON has no word for.
        words: dict[type, Callable[[Any], str]] = {float: repr, int: repr, datetime: datetime.isoformat}
        written = None if value is None else words.get(type(value), str)(value)
        text = json.dumps([self.name, written, str(row_id)], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def parts(self, cursor: str | None) -> Iterator[Sequence[ColumnElement[bool]]]:
        """Yield the conditions of the rows after a cursor: of those with a value, then of those without one.

        Two questions, because databases disagree on where nulls belong. Raises InvalidError for a cursor that was not
        made here for this order.
        """
        value, row_id = (None, None) if cursor is None else _decode(cursor, self)
        nullable = bool(self.column.property.columns[0].nullable)
        if row_id is None:
            yield [self.column.is_not(None)] if nullable else []
        elif value is not None:
            here = tuple_(self.column, self.id)
            there = tuple_(literal(value, self.column.type), literal(row_id, self.id.type))
            yield [here < there if self.descending else here > there]
        if nullable:
            none = self.column.is_(None)
            beyond = () if row_id is None or value is not None else (row_id,)
            yield [none, *(self.id < each if self.descending else self.id > each for each in beyond)]


@dataclass(frozen=True)
class Listed(Generic[Row]):
    """How an entity's rows are listed: the filters, and the columns to sort by, ``-`` before one turns it around.

    ``sort`` is the list's own. A filter without a function asks for equality with the column of its name; a function
    returns a condition, or several of which no row meets two and each of which has an index. ``columns`` are those
    that are read, all by default. ``ids_first`` finds a page's rows by an index alone, and reads only those; filters
    then return one condition each.
    """

    entity: type[Row]
    id: InstrumentedAttribute[uuid.UUID]
    sorts: Mapping[str, Any]
    sort: str
    filters: Mapping[str, Callable[[Any], Any] | None] = field(default_factory=dict)
    columns: Sequence[str] = ()
    ids_first: bool = False

    def page(self, session: Session, wanted: Selection, *within: ColumnElement[bool]) -> Page[Row]:
        """Return a page of the rows that are wanted and meet the conditions ``within``.

        Raises InvalidError for an unknown sort, or a cursor that was not made here for it.
        """
        order = self.order(wanted.sort)
        rows: list[Row] = []
        for after in order.parts(wanted.cursor):
            statement = self._statement(order, wanted, [*within, *after], wanted.limit + 1 - len(rows))
            rows += session.scalars(statement)
            if len(rows) > wanted.limit:
                break
        more = len(rows) > wanted.limit
        rows = rows[: wanted.limit]
        return Page(rows, order.cursor(rows[-1]) if more else None)

    def order(self, sort: str | None) -> Order:
        """Read ``column`` or ``-column``; raises InvalidError for a column that the list is not sorted by."""
        text = sort or self.sort
        column = self.sorts.get(text.removeprefix("-"))
        if column is None:
            known = ", ".join(f"{item}, -{item}" for item in self.sorts)
            raise InvalidError(f"sort={text!r} is unknown; sort by one of {known}.", slug="unknown-sort")
        return Order(text, column, self.id)

    def _statement(
        self, order: Order, wanted: Selection, conditions: Sequence[ColumnElement[bool]], limit: int
    ) -> Executable:
        def read(what: Sequence[Any], way: Sequence[ColumnElement[bool]]) -> Select[Any]:
            return select(*what).where(*conditions, *way).order_by(*order.by()).limit(limit)

        chosen = [self._conditions(name, value) for name, value in wanted.filters.items() if value is not None]
        columns: list[Any] = [getattr(self.entity, name) for name in self.columns]
        ways = list(product(*chosen))
        if self.ids_first:
            (way,) = ways
            found = self.id.in_(read([self.id], way).correlate(None))
            return select(self.entity).where(found).order_by(*order.by())
        if len(ways) == 1:
            return read([self.entity], ways[0]).options(*([load_only(*columns)] if columns else []))
        # Each way reads as many rows of its own index as a page has, however many more there are.
        merged = union_all(*(read(columns or [self.entity], way).subquery().select() for way in ways))
        terms = merged.selected_columns[order.column.key], merged.selected_columns[order.id.key]
        return select(self.entity).from_statement(merged.order_by(*order.by(*terms)).limit(limit))

    def _conditions(self, name: str, value: Any) -> tuple[ColumnElement[bool], ...]:  # noqa: ANN401 - of any column
        of = self.filters[name]
        asked = getattr(self.entity, name) == value if of is None else of(value)
        return asked if isinstance(asked, tuple) else (asked,)


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
    except (binascii.Error, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise refused from error


def _read(written: str, column: InstrumentedAttribute[Any]) -> Value:
    kind = column.type.python_type
    if issubclass(kind, datetime):
        time = datetime.fromisoformat(written)
        if time.tzinfo is None:
            raise ValueError("a time without a zone")
        return time.astimezone(UTC)
    if issubclass(kind, float | int):
        number = float(written)
        if math.isnan(number):
            raise ValueError("no row sorts after NaN")
        return number
    if "\0" in written.encode().decode():  # half of a surrogate pair cannot be encoded
        raise ValueError("no text holds a zero character")
    return written
