"""Bring a database's schema up to date, one process at a time."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from app.db import datasets, policies
from app.db.tables import Dataset
from app.domain.teams import SHARED
from app.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from app.db.session import Database

_log = structlog.get_logger(__name__)

_LOCK = 0x5A00A0D1
"""Number of the advisory lock; any, as long as it stays the same."""

_LOCK_TIMEOUT = "30s"
_STATEMENT_TIMEOUT = "5min"

BUILT_IN = {"name": "digits", "format": "digits", "label_space": "digits"}
"""The data set that ships with the project."""


def upgrade(database: Database) -> None:
    """Create the tables or bring them up to date, and store what ships with the project. Safe to call at any time.

    Several processes may call this at once: one works, the others wait for it. What a later version has migrated stays
    as it is: migrations keep the version before working.
    """
    has = current(database)
    if has is not None and not known(has):
        _log.warning("a later version has migrated the database: start that version", database=has, needs=head())
    elif has != head():
        with locked(database) as connection:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    shared = database.of(SHARED)
    with shared.read() as session:
        present = datasets.by_name(session, BUILT_IN["name"])
        missing = policies.missing_shipped(session)
    if present is None:
        with shared.write() as session:
            _add_built_in(session)
    if missing:
        with shared.write() as session:
            for policy in missing:
                policies.keep(session, policy)


def _add_built_in(session: Session) -> None:
    try:
        datasets.add(session, Dataset(**BUILT_IN))
    except ConflictError:
        return  # another process was first


def current(database: Database) -> str | None:
    """Return the revision that a database is at; None when it has no tables yet."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """Return the revision that this version of the code expects."""
    return _revisions()[0]


def known(revision: str) -> bool:
    """Whether this version of the code has a revision: it then is the one expected or older."""
    return revision in _revisions()


@cache
def _revisions() -> tuple[str, ...]:
    """Return every revision of this version of the code, the newest first. They are files of the installation."""
    return tuple(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _config() -> Config:
    with as_file(files("migrations")) as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


@contextmanager
def locked(database: Database) -> Iterator[Connection]:
    """Yield a connection that alone may change the schema; waits for whoever changes it now.

    On Postgres the lock and every statement are bounded in time, so that a migration behind a long transaction gives
    up instead of stopping the service.
    """
    if database.engine.dialect.name == "sqlite":
        with _file_lock(database.engine.url.database), database.engine.connect() as connection:
            _enforce_references(connection, "OFF")
            try:
                yield connection
            finally:
                connection.rollback()
                _enforce_references(connection, "ON")
        return
    with database.engine.connect() as connection:
        # Set for the session: SET LOCAL would end with the first migration's own transaction.
        connection.execute(text(f"SET lock_timeout = '{_LOCK_TIMEOUT}'"))
        connection.execute(text(f"SET statement_timeout = '{_STATEMENT_TIMEOUT}'"))
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
        connection.commit()
        try:
            yield connection
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
            connection.execute(text("RESET lock_timeout"))
            connection.execute(text("RESET statement_timeout"))
            connection.commit()


def _enforce_references(connection: Connection, to: Literal["ON", "OFF"]) -> None:
    # SQLite changes a table by building it anew and dropping the old one, which would refuse where rows refer to it,
    # or delete them. It ignores the setting inside a transaction, and SQLAlchemy would begin one.
    cursor = connection.connection.cursor()
    cursor.execute(f"PRAGMA foreign_keys = {to}")
    cursor.close()


def check_references(connection: Connection) -> None:
    """Raise where a row of an SQLite database refers to one that is not there; other databases see to it themselves."""
    if connection.dialect.name != "sqlite":
        return
    found = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if found is not None:
        raise RuntimeError(
            f"row {found[1]} of table {found[0]} refers to a row of {found[2]} that is not there: the migration would "
            "leave it so and is undone. Delete the row, or restore a backup, and migrate again."
        )


@contextmanager
def _file_lock(path: str | None) -> Iterator[None]:
    if path is None or path == ":memory:":
        yield
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{path}.migrate.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
