"""How Alembic reaches the database: on the connection that ``app.db.migrate`` has locked, or on one of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import context

from app.db import (  # noqa: F401 - their tables are part of the metadata
    key_tables,
    matrix_tables,
    safety_tables,
    schedule_tables,
    upload_tables,
    webhook_tables,
)
from app.db.clock import UtcTime
from app.db.migrate import check_references, locked
from app.db.session import Database
from app.db.tables import Base
from app.settings import Settings

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import Connection


def _render(kind: str, value: object, autogen: AutogenContext) -> str | bool:
    # A migration must not change when the application's own types do.
    if kind == "type" and isinstance(value, UtcTime):
        return "sa.DateTime(timezone=True)"
    del autogen
    return False


def _migrated(*, ctx: MigrationContext, **_: object) -> None:
    if ctx.connection is not None:  # None where only SQL is written
        check_references(ctx.connection)


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        render_item=_render,
        compare_type=True,
        transaction_per_migration=True,
        on_version_apply=_migrated,
    )
    with context.begin_transaction():
        context.run_migrations()


if (given := context.config.attributes.get("connection")) is not None:
    _run(given)
else:
    _database = Database(Settings().url)
    with locked(_database) as _connection:
        _run(_connection)
    _database.dispose()
