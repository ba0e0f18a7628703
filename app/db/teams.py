"""Whose a row is, and the one place where a team is kept to what it may see and change.

A session opened for a team (``Database.read(team)``) finds rows of that team and shared ones, in every mapped
statement, subqueries and joins included; it adds rows as the team's; and it changes none but the team's. A session
opened for nobody, as the reaper's is, sees everything, and what it adds is shared.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeGuard

from sqlalchemy import ClauseElement, Column, ColumnElement, String, Table, TextClause, event, select
from sqlalchemy.orm import (
    LoaderCriteriaOption,
    Mapped,
    ORMExecuteState,
    Session,
    mapped_column,
    with_loader_criteria,
)
from sqlalchemy.sql import visitors

from app.domain.teams import SHARED
from app.errors import ForbiddenError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Executable
    from sqlalchemy.orm import InstrumentedAttribute, Mapper, UOWTransaction

_TEAM = "team"
_MAPPED = "parententity"
"""How SQLAlchemy marks a column that was written as an attribute of a mapped class."""


class Owned:
    """A table whose rows are one team's, or shared."""

    if TYPE_CHECKING:
        __tablename__: Any
    # The database's own default: the previous version adds rows without knowing of teams.
    team: Mapped[str] = mapped_column(String(100), server_default=SHARED)


class UnfilteredError(RuntimeError):
    """A session of a team was given a statement that the filter of teams cannot reach."""


class TeamSession(Session):
    """A session that keeps to the team it was opened for, if it was opened for one."""

    def __init__(self, bind: Any, team: str | None) -> None:  # noqa: ANN401 - an engine, as Session takes it
        super().__init__(bind, expire_on_commit=False, info={_TEAM: team})


def acting(session: Session) -> str:
    """Return the team that a session adds rows for."""
    team: str | None = session.info.get(_TEAM)
    return SHARED if team is None else team


@contextmanager
def as_team(session: Session, team: str | None) -> Iterator[None]:
    """Keep a session to a team meanwhile, or with None to nobody in particular."""
    before = session.info.get(_TEAM)
    session.info[_TEAM] = team
    try:
        yield
        session.flush()
    finally:
        session.info[_TEAM] = before


def may_see(session: Session, team: str) -> bool:
    """Whether a session may show what belongs to a team; for rows that are not ``Owned``, such as jobs."""
    return session.info.get(_TEAM) in {None, team} or team == SHARED


def check_own(session: Session, row: Owned) -> None:
    """Raise ForbiddenError for a row that the session's team may see and not change.

    For what leaves the row itself as it is; changes of the row are checked without.
    """
    if session.info.get(_TEAM) not in {None, row.team}:
        raise _not_own(type(row))


def own_first(session: Session, column: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """Return the ORDER BY term that puts a team's own rows before shared ones of the same name."""
    return (column == acting(session)).desc()


@event.listens_for(TeamSession, "do_orm_execute")
def _filter(state: ORMExecuteState) -> None:
    team = state.session.info.get(_TEAM)
    if team is None:
        return
    if not state.is_orm_statement and not _reached(state.statement):
        raise UnfilteredError(f"tables and text, so it would show every team's rows: {state.statement}")
    if state.is_insert and _owned(state.bind_mapper):
        raise UnfilteredError(f"rows of {state.bind_mapper} are added as objects, which become the team's")
    if (state.is_update or state.is_delete) and _owned(state.bind_mapper):
        _check_target(state)
    state.statement = state.statement.options(_only(team))


@lru_cache(maxsize=1000)  # every statement has one
def _only(team: str) -> LoaderCriteriaOption:
    visible = [SHARED, team]
    return with_loader_criteria(Owned, lambda table: table.team.in_(visible), include_aliases=True)


def _reached(statement: Executable) -> bool:
    """Whether the filter reaches every owned table of a statement that selects no mapped class itself."""
    if isinstance(statement, TextClause) or not isinstance(statement, ClauseElement):
        return False
    parts = list(visitors.iterate(statement))
    named = {part.name for part in parts if isinstance(part, Table)}
    columns = [(part.table.name, _MAPPED in part._annotations) for part in parts if _of_table(part)]  # noqa: SLF001
    owned = {each.__tablename__ for each in Owned.__subclasses__()}
    return all((table, True) in columns and (table, False) not in columns for table in named & owned)


def _of_table(part: object) -> TypeGuard[Column[Any]]:
    return isinstance(part, Column) and isinstance(part.table, Table)


def _owned(mapper: Mapper[Any] | None) -> bool:
    return mapper is not None and issubclass(mapper.class_, Owned)


def _check_target(state: ORMExecuteState) -> None:
    """Refuse an UPDATE or DELETE that means shared rows; other teams' it does not find."""
    table = state.bind_mapper.class_  # type: ignore[union-attr]  # checked by _owned
    meant = select(table.team).where(table.team != acting(state.session))
    condition = state.statement.whereclause  # type: ignore[attr-defined]  # UPDATE and DELETE have one
    if state.session.scalar(meant if condition is None else meant.where(condition)) is not None:
        raise _not_own(table)


@event.listens_for(TeamSession, "before_flush")
def _stamp(session: Session, _context: UOWTransaction, _instances: object) -> None:
    team = acting(session)
    for row in session.new:
        if isinstance(row, Owned) and row.team is None:
            row.team = team
    if session.info.get(_TEAM) is None:
        return
    for row in (*session.new, *session.dirty, *session.deleted):
        changes = row in session.new or row in session.deleted or session.is_modified(row)
        if isinstance(row, Owned) and row.team != team and changes:
            raise _not_own(type(row))


def _not_own(table: type[Any]) -> ForbiddenError:
    return ForbiddenError(
        f"This is shared ({table.__tablename__}), so a team's key may look at it and not change it; "
        f"use a key of the team {SHARED}.",
        slug="shared",
    )
