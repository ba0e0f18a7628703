"""Whose each row is: a team's, or shared. All that there is becomes shared."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from collections.abc import Iterator

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_INDEXED = ("audits", "comparisons", "findings", "latency_runs", "listings", "predictions", "vettings")
_NAMED = {"datasets": ("name",), "schedules": ("name",), "policies": ("name", "version")}
"""Tables whose rows have names, of which each team may have its own."""
_NAME_LENGTH = 100
"""What each of their names may be long."""


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
    """Lose the team of each row, and with it who may see what.

    That is of audits, comparisons, findings, latency_runs, listings, predictions, vettings, datasets, schedules,
    policies, fingerprints, jobs and webhooks. The name of a team's own datasets, schedules and policies gets the
    team's behind it.
    """
    for table, columns in _NAMED.items():
        _name_without_teams(sa.table(table, sa.column("name"), sa.column("team")))
        with op.batch_alter_table(table) as batch_op:
            batch_op.drop_constraint(_name(table, ("team", *columns)), type_="unique")
            batch_op.create_unique_constraint(_name(table, columns), list(columns))
            batch_op.drop_column("team")
    for table in _INDEXED:
        op.drop_index(f"ix_{table}_team", table_name=table)
    for table in (*_INDEXED, "fingerprints", "jobs", "webhooks"):
        with op.batch_alter_table(table) as batch_op:
            batch_op.drop_column("team")


def _name_without_teams(table: sa.TableClause) -> None:
    # Without teams a name is there once: a team's own rows take the team's name into theirs, or as much as there is
    # room for, and a number where that name is taken.
    names = op.get_bind().execute(sa.select(table.c.name, table.c.team).distinct().order_by("name", "team")).all()
    taken = {name for name, _ in names}
    for name, team in names:
        if team != "shared":
            new = next(each for each in _with_team(name, team) if each not in taken)
            taken.add(new)
            op.execute(table.update().where(table.c.name == name, table.c.team == team).values(name=new))


def _with_team(name: str, team: str) -> Iterator[str]:
    for number in itertools.count(1):
        end = f"-{team[: _NAME_LENGTH // 2]}" + (f"-{number}" if number > 1 else "")
        yield name[: _NAME_LENGTH - len(end)] + end


def _name(table: str, columns: tuple[str, ...]) -> str:
    return f"uq_{table}_{'_'.join(columns)}"
