"""What every migration owes rows and versions: none is lost on the way, and the version before works on beside it."""

from __future__ import annotations

import datetime as dt
import json
import uuid

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.sql.ddl import sort_tables_and_constraints

from app.db import migrate
from app.db.tables import Base

LAST_ALONE = "0008"
"""From the revision after this one on two versions work side by side."""

MEANT = {
    "state": "succeeded",
    "cron": "0 3 * * *",
    "time_zone": "UTC",
    "missed": "skip",
    "dimension": "latency",
    "verdict": "different",
    "scope": "read",
}
"""What a column of this name holds where it is text; any other text is made up."""

COUNTED = {"finding_counts"}
"""Tables that the database fills by itself."""

LATER = ("jobs", "measurement_id")
"""Jobs and measurements refer to each other: this reference is stored last."""


def scripts():
    """Return every migration, the oldest first."""
    return [*ScriptDirectory.from_config(migrate._config()).walk_revisions()][::-1]


def go(database, to, step=command.upgrade):
    config = migrate._config()
    with migrate.locked(database) as connection:
        config.attributes["connection"] = connection
        step(config, to)


def reflected(database):
    """Return the tables as they are, without Alembic's own."""
    found = sa.MetaData()
    found.reflect(database.engine, only=lambda name, _: name != "alembic_version")
    return found


def made_up(column, number):
    """Return a value for row ``number`` that is nothing's default; texts are as long as they may be, up to 100."""
    if isinstance(column.type, sa.JSON):
        return {"number": number}
    kind = column.type.python_type
    if kind is str:
        return made_up_text(column, number)
    if kind is dt.datetime:
        return dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=number)
    values = {bool: number % 2 == 0, bytes: b"%d" % number, uuid.UUID: uuid.UUID(int=number + 1)}
    return values[kind] if kind in values else kind(number + 1)


def made_up_text(column, number):
    if column.name == "team":
        return ("shared", "red", "blue")[number % 3]
    if column.name in MEANT:
        return MEANT[column.name]
    length = column.type.length or 100
    if length == 32 and isinstance(column.type, sa.CHAR):  # how SQLite keeps a UUID
        return uuid.UUID(int=number + 1).hex
    return f"timm:{column.name}-{number}-".ljust(length, "x")[: min(length, 100)]


def fill(database, tables, first):
    """Add two rows to each table, numbered from ``first``: one with every column, one with only those it must have.

    ``tables`` may be those of an older revision: then these are the rows that the older version adds.
    """
    ordered = [table for table, _ in sort_tables_and_constraints(tables.tables.values(), is_later) if table is not None]
    later = tables.tables[LATER[0]]
    with database.engine.begin() as connection:
        for table in ordered:
            if table.name not in COUNTED:
                for number in (first, first + 1):
                    connection.execute(table.insert().values(row(table, number, whole=number == first)))
        chosen = later.update().where(later.c.id == made_up(later.c.id, first))
        connection.execute(chosen.values({LATER[1]: value(later.c[LATER[1]], first)}))


def is_later(key):
    return True if (key.table.name, *key.column_keys) == LATER else None


def row(table, number, *, whole):
    return {
        column.name: value(column, number)
        for column in table.columns
        if column.computed is None
        and (table.name, column.name) != LATER
        and (whole or not (column.nullable or column.server_default))
    }


def value(column, number):
    """Return a value as ``made_up``, where the column refers to another the one that this has."""
    (other, *_) = (*(key.column for key in column.foreign_keys), column)
    return made_up(other, number)


def rows(database, tables):
    """Return every row by table and primary key, each with its values by column."""
    with database.engine.connect() as connection:
        return {
            table.name: {
                tuple(found[key.name] for key in table.primary_key.columns): dict(found)
                for found in connection.execute(sa.select(table)).mappings()
            }
            for table in tables.tables.values()
        }


def changed(before, after):
    """Return the tables that lost or gained rows or are gone, and the columns whose values are not those from before.

    Columns that exist on one side only do not count.
    """
    found = {(name,) for name in before if before[name] and set(before[name]) != set(after.get(name, {}))}
    for name in set(before) & set(after):
        for key in set(before[name]) & set(after[name]):
            old, new = before[name][key], after[name][key]
            found |= {(name, column) for column in set(old) & set(new) if old[column] != new[column]}
    return sorted(found)


def form(database):
    """Return what a schema consists of, by table, in a form that can be compared."""
    look = sa.inspect(database.engine)
    return {name: form_of(look, name) for name in look.get_table_names() if name != "alembic_version"} | {
        "triggers": triggers(database)
    }


def form_of(look, name):
    uniques = [each["column_names"] for each in look.get_unique_constraints(name)]
    return {
        "columns": {
            each["name"]: (
                type(each["type"]).__name__,
                getattr(each["type"], "length", None),
                each["nullable"],
                each["default"] is not None or "computed" in each,
            )
            for each in look.get_columns(name)
        },
        "key": tuple(look.get_pk_constraint(name)["constrained_columns"]),
        "uniques": sorted(tuple(each) for each in uniques),
        "indexes": sorted(
            (each["name"], tuple(each["column_names"]), bool(each["unique"]), where(each))
            for each in look.get_indexes(name)
        ),
        "references": sorted(
            (tuple(each["constrained_columns"]), each["referred_table"], json.dumps(each["options"]))
            for each in look.get_foreign_keys(name)
        ),
        "checks": sorted(each["sqltext"] for each in look.get_check_constraints(name)),
    }


def where(index):
    """Return the condition of a partial index as text, without what a database adds when it repeats it."""
    found = index.get("dialect_options", {})
    return str(found.get("sqlite_where", found.get("postgresql_where", "")))


def triggers(database):
    query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    if database.engine.dialect.name == "postgresql":
        query = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    with database.engine.connect() as connection:
        return sorted(connection.scalars(sa.text(query)))


def climb(database):
    """Go from nothing to the head, adding rows at every step; return each revision's tables, its form with them."""
    go(database, "base", command.downgrade)
    before, levels = sa.MetaData(), {}
    for number, script in enumerate(scripts()):
        had = rows(database, before)
        go(database, script.revision)
        now = reflected(database)
        assert changed(had, rows(database, now)) == [], f"{script.revision} changes rows on the way up"
        if script.revision > LAST_ALONE:
            fill(database, before, 1000 + 2 * number)
            seen = rows(database, before)
            assert changed(seen, rows(database, now)) == [], f"the version before {script.revision} reads other rows"
        fill(database, now, 2 * number)
        before, levels[script.revision] = now, (now, form(database))
    return levels


def test_rows_outlive_every_step_up_and_down(database):
    levels = climb(database)
    with database.read() as session:
        for mapper in Base.registry.mappers:
            assert len(session.scalars(sa.select(mapper)).all()) > 1, f"{mapper.local_table} was left without rows"
    for script in reversed(scripts()):
        now, is_form = levels[script.revision]
        below, was_form = levels.get(script.down_revision, (sa.MetaData(), {"triggers": []}))
        had = rows(database, now)
        go(database, script.down_revision or "base", command.downgrade)
        assert form(database) == was_form, f"back from {script.revision} is not where it began"
        left = rows(database, below)
        go(database, script.revision)
        assert form(database) == is_form, f"{script.revision} is another one after down and up"
        again = rows(database, now)
        assert changed(left, again) == [], f"{script.revision} changes rows on the way up"
        lost = {*changed({name: had[name] for name in left}, left), *changed(had, again)}
        told = script.module.downgrade.__doc__ or ""
        if script.down_revision is None:
            assert "every table" in told
            continue
        untold = {each for each in lost if not all(word in told for word in each)}
        assert untold == set(), f"the docstring of downgrade() in {script.revision} must name what is lost"
        go(database, script.down_revision, command.downgrade)


def breaks(before, after):
    """Return what the version that knows the form ``before`` can no longer do with the form ``after``, in sentences."""
    before, after = ({name: each for name, each in form.items() if name != "triggers"} for form in (before, after))
    found = [f"table {name} is gone" for name in before if name not in after]
    for name in set(before) & set(after):
        found += [f"{name}: {each}" for each in table_breaks(before[name], after[name])]
    return sorted(found)


def table_breaks(old, new):
    found = []
    for name, (kind, length, nullable, default) in old["columns"].items():
        if name not in new["columns"]:
            found.append(f"column {name} is gone")
            continue
        new_kind, new_length, new_nullable, new_default = new["columns"][name]
        if kind != new_kind or (new_length is not None and (length is None or length > new_length)):
            found.append(f"column {name} takes less")
        if (nullable or default) and not (new_nullable or new_default):
            found.append(f"column {name} may no longer be left out")
        if nullable and not new_nullable:
            found.append(f"column {name} may no longer be null")
    added = {name: new["columns"][name] for name in set(new["columns"]) - set(old["columns"])}
    found += [
        f"column {name} must be given" for name, (*_, nullable, default) in added.items() if not nullable | default
    ]
    uniques = [set(each) for each in unique(old)]
    found += [f"{each} must be unique" for each in unique(new) if not any(have <= set(each) for have in uniques)]
    for columns, referred, _ in new["references"]:
        if set(columns) <= set(old["columns"]) and (columns, referred) not in [each[:2] for each in old["references"]]:
            found.append(f"{columns} must refer to {referred}")
    return found + [f"must satisfy {each}" for each in new["checks"] if each not in old["checks"]]


def unique(table):
    """Return what must be unique, as columns; with a condition where an index has one."""
    indexes = [(*columns, *filter(None, [where])) for _, columns, is_unique, where in table["indexes"] if is_unique]
    return {table["key"], *table["uniques"], *indexes}


def test_the_version_before_can_work_on(database):
    go(database, LAST_ALONE, command.downgrade)
    before = form(database)
    for script in scripts():
        if script.revision > LAST_ALONE:
            go(database, script.revision)
            after = form(database)
            assert breaks(before, after) == [], f"{script.revision} stops the version before"
            before = after


BREAKS = {
    "table webhook_attempts is gone": lambda op: op.rename_table("webhook_attempts", "webhook_calls"),
    "jobs: column traceparent is gone": lambda op: alter(op, "jobs", "drop_column", "traceparent"),
    "catalogs: column tag must be given": lambda op: alter(
        op, "catalogs", "add_column", sa.Column("tag", sa.String(5), nullable=False)
    ),
    "catalogs: column version takes less": lambda op: alter(
        op, "catalogs", "alter_column", "version", type_=sa.String(100), existing_nullable=False
    ),
    "jobs: column traceparent may no longer be null": lambda op: alter(
        op, "jobs", "alter_column", "traceparent", existing_type=sa.String(55), nullable=False
    ),
    "jobs: column lease_losses may no longer be left out": lambda op: alter(
        op, "jobs", "alter_column", "lease_losses", existing_type=sa.Integer(), server_default=None
    ),
    "predictions: ('ref',) must be unique": lambda op: op.create_index("uq", "predictions", ["ref"], unique=True),
    "catalogs: ('zoo',) must refer to listing_versions": lambda op: alter(
        op, "catalogs", "create_foreign_key", "fk", "listing_versions", ["zoo"], ["digest"]
    ),
    "catalogs: must satisfy listings >= 0": lambda op: alter(
        op, "catalogs", "create_check_constraint", "ck", "listings >= 0"
    ),
}


def alter(op, table, what, *words, **options):
    with op.batch_alter_table(table) as batch_op:
        getattr(batch_op, what)(*words, **options)


@pytest.mark.parametrize("told", BREAKS)
def test_what_would_stop_the_version_before_is_told(database, told):
    before = form(database)
    with migrate.locked(database) as connection, connection.begin():
        BREAKS[told](Operations(MigrationContext.configure(connection)))
    assert told in breaks(before, form(database))
