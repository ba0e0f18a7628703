"""Databases and their transactions. The edge opens one; below it there is only ``flush``."""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event

from app.db.teams import TeamSession

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session

_READ_ONLY = "zooaudit_read_only"
_CONNECT_S = 5
_BUSY_S = 30
"""Time for which a connection of SQLite waits for others."""


class Database:
    """One database, SQLite or Postgres, for the life of a process, as one team sees it (``app.db.teams``).

    With ``team`` None it is nobody in particular, who sees everything.
    """

    def __init__(self, url: str, *, team: str | None = None) -> None:
        self._use(make_engine(url), team)

    def _use(self, engine: Engine, team: str | None) -> None:
        self.engine = engine
        self._readers = engine.execution_options(**{_READ_ONLY: True})
        self._team = team

    def of(self, team: str | None) -> Database:
        """Return this database as a team sees it; the connections are the same."""
        seen = Database.__new__(Database)
        seen._use(self.engine, team)  # noqa: SLF001 - its own kind
        return seen

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction that may write; committed at the end, rolled back on an exception."""
        with TeamSession(self.engine, self._team) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One transaction that only reads, and on SQLite never waits for a writer."""
        with TeamSession(self._readers, self._team) as session:
            yield session

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """One connection for many short looks that cost little, each of which ends with ``rollback``."""
        readers = self._readers
        if self.engine.dialect.name == "postgresql":
            readers = readers.execution_options(isolation_level="AUTOCOMMIT")
        with readers.connect() as connection:
            yield connection

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def make_engine(url: str) -> Engine:
    """Return an engine with what each database needs to be safe under several processes."""
    if not url.startswith("sqlite"):
        # The default waits minutes for a machine that does not answer, and readiness with it.
        return create_engine(_with_psycopg(url), pool_pre_ping=True, connect_args={"connect_timeout": _CONNECT_S})
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
