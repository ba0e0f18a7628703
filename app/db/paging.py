"""Lists: each says once what it is filtered and sorted by, and is read in keyset pages.

Each page begins after the last row of the one before, so that rows added meanwhile shift nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from sqlalchemy import Integer, bindparam, select, tuple_, union_all
from sqlalchemy.orm import load_only

from app.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

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

    def within(self, **filters: Any) -> Selection:  # noqa: ANN401 - of any column
        """Return what is wanted, of the rows that meet these filters too."""
        return replace(self, filters={**self.filters, **filters})


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

    def parts(self, cursor: str | None) -> Iterator[tuple[Part, dict[str, Any]]]:
        """Yield the parts of the list from a cursor on, with their parameters: rows with a value, then those without.

        Two questions, because databases disagree on where nulls belong. Raises InvalidError for a cursor that was not
        made here for this order.
        """
        value, row_id = (None, None) if cursor is None else _decode(cursor, self)
        if row_id is None:
            yield Part(valued=True, begun=False), {}
        elif value is not None:
            yield Part(valued=True, begun=True), {_VALUE: value, _ID: row_id}
        if self._nullable:
            begun = row_id is not None and value is None
            yield Part(valued=False, begun=begun), {_ID: row_id} if begun else {}

    def conditions(self, part: Part) -> list[ColumnElement[bool]]:
        """Return the conditions of a part's rows."""
        row_id = bindparam(_ID, type_=self.id.type)
        if not part.valued:
            beyond = [self.id < row_id if self.descending else self.id > row_id] if part.begun else []
            return [self.column.is_(None), *beyond]
        if not part.begun:
            return [self.column.is_not(None)] if self._nullable else []
        here, there = tuple_(self.column, self.id), tuple_(bindparam(_VALUE, type_=self.column.type), row_id)
        return [here < there if self.descending else here > there]

    @property
    def _nullable(self) -> bool:
        return bool(self.column.property.columns[0].nullable)


class Part(NamedTuple):
    """Rows of a list that one statement finds: with a value to sort by or without one, from the first or from a row on.

    ``begun``: that row is known by the parameters.
    """

    valued: bool
    begun: bool


_VALUE, _ID, _ROWS = "after_value", "after_id", "rows"
"""Parameters of the statements beside the filters: the row that a page begins after, and how many rows it may have."""


@dataclass(frozen=True, eq=False)
class Listed(Generic[Row]):
    """How an entity's rows are listed: the filters, and the columns to sort by, ``-`` before one turns it around.

    ``sort`` is the list's own. A filter without a function asks for equality with the column of its name; a function
    returns a condition, or several of which no row meets two and each of which has an index. It is given a parameter
    that stands for the value, or for filters ``by_value`` the value itself. ``only`` is what all rows meet. ``columns``
    are those that are read, all by default. ``ids_first`` finds a page's rows by an index alone, and reads only those;
    filters then return one condition each.
    """

    entity: type[Row]
    id: InstrumentedAttribute[uuid.UUID]
    sorts: Mapping[str, Any]
    sort: str
    filters: Mapping[str, Callable[[Any], Any] | None] = field(default_factory=dict)
    by_value: Collection[str] = ()
    only: Sequence[ColumnElement[bool]] = ()
    columns: Sequence[str] = ()
    ids_first: bool = False

    def page(self, session: Session, wanted: Selection) -> Page[Row]:
        """Return a page of the rows that are wanted.

        Raises InvalidError for an unknown sort, or a cursor that was not made here for it.
        """
        order = self.order(wanted.sort)
        given = {name: value for name, value in wanted.filters.items() if value is not None}
        written = tuple((name, value if name in self.by_value else None) for name, value in given.items())
        sent = {name: value for name, value in given.items() if name not in self.by_value}
        rows: list[Row] = []
        for part, after in order.parts(wanted.cursor):
            left = wanted.limit + 1 - len(rows)
            rows += session.scalars(_statement(self, order.name, written, part), {**sent, **after, _ROWS: left})
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

    def conditions(self, name: str, value: Any) -> tuple[ColumnElement[bool], ...]:  # noqa: ANN401 - of any column
        """Return the conditions of a filter, of which a row meets one."""
        of, asked = self.filters[name], value if name in self.by_value else bindparam(name)
        found = getattr(self.entity, name) == asked if of is None else of(asked)
        return found if isinstance(found, tuple) else (found,)


@lru_cache(maxsize=256)  # to make a statement takes longer than to send it, and a list is asked for in few ways
def _statement(listed: Listed[Any], sort: str, filters: tuple[tuple[str, Any], ...], part: Part) -> Executable:
    """Return the statement for a part of a list: filters by name, with the value where it is written into it."""
    order, entity, rows = listed.order(sort), listed.entity, bindparam(_ROWS, type_=Integer())
    always = (*listed.only, *order.conditions(part))

    def read(what: Sequence[Any], way: Sequence[ColumnElement[bool]]) -> Select[Any]:
        return select(*what).where(*always, *way).order_by(*order.by()).limit(rows)

    columns: list[Any] = [getattr(entity, name) for name in listed.columns]
    ways = list(product(*(listed.conditions(name, value) for name, value in filters)))
    if listed.ids_first:
        (way,) = ways
        found = listed.id.in_(read([listed.id], way).correlate(None))
        return select(entity).where(found).order_by(*order.by())
    if len(ways) == 1:
        return read([entity], ways[0]).options(*([load_only(*columns)] if columns else []))
    # Each way reads as many rows of its own index as a page has, however many more there are.
    merged = union_all(*(read(columns or [entity], way).subquery().select() for way in ways))
    terms = merged.selected_columns[order.column.key], merged.selected_columns[order.id.key]
    return select(entity).from_statement(merged.order_by(*order.by(*terms)).limit(rows))


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
