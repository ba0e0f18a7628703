"""Whose each row is: a team's, or shared. All that there is becomes shared."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_INDEXED = ("audits", "comparisons", "findings", "latency_runs", "listings", "predictions", "vettings")
_NAMED = {"datasets": ("name",), "schedules": ("name",), "policies": ("name", "version")}
"""Tables whose rows have names, of which each team may have its own."""


def upgrade() -> None:
    for table in (*_INDEXED, *_NAMED, "fingerprints", "jobs", "webhooks"):
        # The default is the database's: the previous version adds rows without knowing of teams.
        op.add_column(table, sa.Column("team", sa.String(length=100), server_default="shared", nullable=False))
    for table in _INDEXED:
        op.create_index(f"ix_{table}_team", table, ["team"])
    for table, columns in _NAMED.items():
        with op.batch_alter_table(table) as batch_op:
            batch_op.drop_constraint(_name(table, columns), type_="unique")
            batch_op.create_unique_constraint(_name(table, ("team", *columns)), ["team", *columns])


def downgrade() -> None:
    for table, columns in _NAMED.items():
        # Without teams a name is there once: a team's own rows take the team's name into theirs.
        op.execute(f"UPDATE {table} SET name = name || '-' || team WHERE team <> 'shared'")  # noqa: S608 - names from above
        with op.batch_alter_table(table) as batch_op:
            batch_op.drop_constraint(_name(table, ("team", *columns)), type_="unique")
            batch_op.create_unique_constraint(_name(table, columns), list(columns))
            batch_op.drop_column("team")
    for table in _INDEXED:
        op.drop_index(f"ix_{table}_team", table_name=table)
    for table in (*_INDEXED, "fingerprints", "jobs", "webhooks"):
        with op.batch_alter_table(table) as batch_op:
            batch_op.drop_column("team")


def _name(table: str, columns: tuple[str, ...]) -> str:
    return f"uq_{table}_{'_'.join(columns)}"
