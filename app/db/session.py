"""Databases and their transactions. The edge opens one; below it there is only ``flush``."""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event

from app.db.teams import TeamSession

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import ORMExecuteState, Session

_READ_ONLY = "zooaudit_read_only"
_CONNECT_S = 5
# The default waits minutes for a machine that does not answer, and readiness with it.
_POSTGRES: dict[str, Any] = {"pool_pre_ping": True, "connect_args": {"connect_timeout": _CONNECT_S}}
_BUSY_S = 30
"""Time for which a connection of SQLite waits for others."""


class WriteError(RuntimeError):
    """A session that only reads was about to write."""


class Database:
    """One database, SQLite or Postgres, for the life of a process, as one team sees it (``app.db.teams``).

    With ``team`` None it is nobody in particular, who sees everything. ``engine`` is for what writes, ``readers`` for
    what only reads.
    """

    def __init__(self, url: str, *, team: str | None = None) -> None:
        self.engine = make_engine(url)
        self.readers = _readers(self.engine)
        self._team = team

    def of(self, team: str | None) -> Database:
        """Return this database as a team sees it; the connections are the same."""
        seen = copy(self)
        seen._team = team  # noqa: SLF001 - its own kind
        return seen

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction that may write; committed at the end, rolled back on an exception."""
        with TeamSession(self.engine, self._team) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Statements that only read, and on SQLite never wait for a writer.

        Neither to open nor to close it takes longer than a few lines of Python. Raises WriteError for any other.
        """
        with TeamSession(self.readers, self._team) as session:
            session.info[_READ_ONLY] = True
            yield session

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """One connection for many short looks that cost little, each of which ends with ``rollback``."""
        with self.readers.connect() as connection:
            yield connection

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()
        self.readers.dispose()


@event.listens_for(TeamSession, "do_orm_execute")
def _refuse_statement(state: ORMExecuteState) -> None:
    if (state.is_insert or state.is_update or state.is_delete) and _READ_ONLY in state.session.info:
        raise WriteError(f"a session that only reads was given {state.statement}")


@event.listens_for(TeamSession, "before_flush")
def _refuse_rows(session: Session, _context: object, _instances: object) -> None:
    if _READ_ONLY in session.info:
        raise WriteError(f"a session that only reads was given {[*session.new, *session.dirty, *session.deleted]}")


def make_engine(url: str) -> Engine:
    """Return an engine with what each database needs to be safe under several processes."""
    if not url.startswith("sqlite"):
        return create_engine(_with_psycopg(url), **_POSTGRES)
    engine = create_engine(url, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own class
        # The driver's own transaction control would turn BEGIN IMMEDIATE below into a second BEGIN.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (f"busy_timeout={1000 * _BUSY_S}", "synchronous=NORMAL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        _use_wal(cursor)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A deferred transaction that reads and then writes fails with "locked" as soon as two processes do it.
        read_only = connection.get_execution_options().get(_READ_ONLY)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _readers(engine: Engine) -> Engine:
    """Return the engine for what only reads."""
    if engine.dialect.name != "postgresql":
        return engine.execution_options(**{_READ_ONLY: True})
    # Each statement sees the newest that is committed anyhow, and to begin and to end are a round trip each. They have
    # connections of their own, because to switch one over takes as long.
    readers = create_engine(engine.url, isolation_level="AUTOCOMMIT", **_POSTGRES)

    @event.listens_for(readers, "connect")
    def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own class
        # A statement that came often would be planned once for whatever it is asked for, and what a list is filtered by
        # is anything from most rows to none.
        connection.execute("SET plan_cache_mode = force_custom_plan")

    return readers


def _use_wal(cursor: sqlite3.Cursor) -> None:
    """Have the database keep a write-ahead log. SQLite does not wait for others that are about to; this does."""
    until = time.monotonic() + _BUSY_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _with_psycopg(url: str) -> str:
    # A plain postgresql:// URL means psycopg 3 here; SQLAlchemy's default driver is not installed.
    return url.replace("postgresql://", "postgresql+psycopg://", 1)
