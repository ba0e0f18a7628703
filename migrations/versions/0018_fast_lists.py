"""Indexes behind every filter and sort of the lists, the zoos of comparisons, and the counts of the matrix."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_FINDINGS = (
    ("metric", "magnitude"),
    ("verdict", "magnitude"),
    ("architecture", "magnitude"),
    ("audit_id", "magnitude"),
    ("zoo_a", "magnitude"),
    ("zoo_b", "magnitude"),
    ("effect",),
    ("dimension", "effect"),
    ("metric", "effect"),
    ("verdict", "effect"),
    ("architecture", "dimension", "effect"),
    ("audit_id", "effect"),
    ("created_at",),
    ("audit_id", "created_at"),
    ("a_ref", "created_at"),
    ("b_ref", "created_at"),
)
_COMPARISONS = (
    ("created_at",),
    ("finished_at",),
    ("audit_id", "created_at"),
    ("audit_id", "finished_at"),
    ("state", "created_at"),
    ("verdict", "created_at"),
    ("architecture", "created_at"),
    ("a_ref", "created_at"),
    ("b_ref", "created_at"),
    ("zoo_a", "created_at"),
    ("zoo_b", "created_at"),
)
_LISTINGS = (("architecture", "ref"), ("zoo", "ref"), ("zoo", "name"), ("name",), ("weights", "ref"))
_NEW = {"findings": _FINDINGS, "comparisons": _COMPARISONS, "listings": _LISTINGS}
# What a new one begins with, so that it serves instead.
_OLD = {
    "findings": (("architecture", "dimension"), ("audit_id",), ("zoo_a",), ("zoo_b",)),
    "comparisons": (("a_ref",), ("architecture",), ("audit_id",), ("b_ref",), ("state",)),
    "listings": (("architecture", "zoo"), ("zoo",)),
}

# A finding counts among all, among those of its architecture key, and among those of its audit.
_LOCK = 4_201_017
_KEYS = "team, scope, dimension, zoo_a, zoo_b, verdict"
_ADD = """
  INSERT INTO finding_counts ({keys}, findings, worst, worst_id)
  SELECT NEW.team, scope, NEW.dimension, NEW.zoo_a, NEW.zoo_b, NEW.verdict, 1, NEW.magnitude, NEW.id
  FROM ({scopes}) AS scopes WHERE scope IS NOT NULL
  ON CONFLICT ({keys}) DO UPDATE SET
    findings = finding_counts.findings + 1,
    worst_id = CASE WHEN excluded.worst > finding_counts.worst
      THEN excluded.worst_id ELSE finding_counts.worst_id END,
    worst = CASE WHEN excluded.worst > finding_counts.worst THEN excluded.worst ELSE finding_counts.worst END;"""
_SUBTRACT = """
  UPDATE finding_counts SET findings = findings - 1
  WHERE team = OLD.team AND scope IN (SELECT scope FROM ({scopes}) AS scopes) AND dimension = OLD.dimension
    AND zoo_a = OLD.zoo_a AND zoo_b = OLD.zoo_b AND verdict = OLD.verdict;
  DELETE FROM finding_counts WHERE findings = 0 AND team = OLD.team AND dimension = OLD.dimension
    AND zoo_a = OLD.zoo_a AND zoo_b = OLD.zoo_b AND verdict = OLD.verdict;
  UPDATE finding_counts SET (worst, worst_id) = (SELECT magnitude, id {left} ORDER BY magnitude DESC LIMIT 1)
  WHERE worst_id = OLD.id AND team = OLD.team AND dimension = OLD.dimension
    AND zoo_a = OLD.zoo_a AND zoo_b = OLD.zoo_b AND verdict = OLD.verdict AND EXISTS (SELECT 1 {left});"""
_LEFT = """
  FROM findings AS f
  WHERE f.team = OLD.team AND f.zoo_a = OLD.zoo_a AND f.zoo_b = OLD.zoo_b AND f.dimension = OLD.dimension
    AND f.verdict = OLD.verdict AND finding_counts.scope IN ({scope_list})"""
_FILL = """
  INSERT INTO finding_counts ({keys}, findings, worst, worst_id)
  SELECT {keys}, count(*), max(magnitude), {first}
  FROM (
    SELECT f.*, scopes.scope
    FROM findings AS f CROSS JOIN LATERAL ({scopes}) AS scopes WHERE scope IS NOT NULL
  ) AS scoped GROUP BY {keys}"""
# SQLite has no lateral join, and takes the other columns from the row with the largest magnitude.
_FILL_ON_SQLITE = """
  INSERT INTO finding_counts ({keys}, findings, worst, worst_id)
  SELECT {keys}, count(*), max(magnitude), id
  FROM ({scoped}) AS scoped GROUP BY {keys}"""


def _scopes(row: str, *, sqlite: bool) -> list[str]:
    """Return the scopes that a finding counts in, as SQL; null where it does not."""
    audit = f"{row}.audit_id" if sqlite else f"replace(CAST({row}.audit_id AS text), '-', '')"
    return ["''", f"'architecture:' || {row}.architecture", f"'audit:' || {audit}"]


def _words(row: str, *, sqlite: bool) -> dict[str, str]:
    scopes = _scopes(row, sqlite=sqlite)
    return {
        "keys": _KEYS,
        "scopes": " UNION ALL ".join(f"SELECT {scope} AS scope" for scope in scopes),
        "left": _LEFT.format(scope_list=", ".join(_scopes("f", sqlite=sqlite))),
    }


def upgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    zoo_of = "substr({0}, 1, instr({0}, ':') - 1)" if sqlite else "split_part({0}, ':', 1)"
    for side in ("a", "b"):
        # Of the columns that SQLite computes it can add only those that it does not store.
        kept = "VIRTUAL" if sqlite else "STORED"
        expression = zoo_of.format(f"{side}_ref")
        computed = f"GENERATED ALWAYS AS ({expression}) {kept} NOT NULL"
        op.execute(f"ALTER TABLE comparisons ADD COLUMN zoo_{side} VARCHAR(1000) {computed}")
    for table, each in _NEW.items():
        for columns in each:
            op.create_index("_".join(("ix", table, *columns, "id")), table, [*columns, "id"])
    for table, each in _OLD.items():
        for columns in each:
            op.drop_index("_".join(("ix", table, *columns)), table_name=table)
    op.create_table(
        "finding_counts",
        sa.Column("team", sa.String(length=100), nullable=False),
        sa.Column("scope", sa.String(length=250), nullable=False),
        sa.Column("dimension", sa.String(length=20), nullable=False),
        sa.Column("zoo_a", sa.String(length=100), nullable=False),
        sa.Column("zoo_b", sa.String(length=100), nullable=False),
        sa.Column("verdict", sa.String(length=20), nullable=False),
        sa.Column("findings", sa.Integer(), nullable=False),
        sa.Column("worst", sa.Double(), nullable=False),
        sa.Column("worst_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint(*_KEYS.split(", "), name=op.f("pk_finding_counts")),
    )
    (_count_on_sqlite if sqlite else _count_on_postgres)()


def _count_on_sqlite() -> None:
    for name, event, row, body in (("count", "INSERT", "NEW", _ADD), ("uncount", "DELETE", "OLD", _SUBTRACT)):
        statements = body.format(**_words(row, sqlite=True))
        op.execute(f"CREATE TRIGGER {name}_finding AFTER {event} ON findings BEGIN {statements} END")
    scoped = [
        f"SELECT *, {scope} AS scope FROM findings AS f WHERE {scope} IS NOT NULL"  # noqa: S608 - above
        for scope in _scopes("f", sqlite=True)
    ]
    op.execute(_FILL_ON_SQLITE.format(keys=_KEYS, scoped=" UNION ALL ".join(scoped)))


def _count_on_postgres() -> None:
    for name, event, row, body in (("count", "INSERT", "NEW", _ADD), ("uncount", "DELETE", "OLD", _SUBTRACT)):
        # At the commit, and one transaction at a time: two that count the same in another order would stop each other.
        op.execute(
            f"CREATE FUNCTION {name}_finding() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"PERFORM pg_advisory_xact_lock({_LOCK}); {body.format(**_words(row, sqlite=False))} RETURN NULL; END $$"
        )
        op.execute(
            f"CREATE CONSTRAINT TRIGGER {name}_finding AFTER {event} ON findings DEFERRABLE INITIALLY DEFERRED "
            f"FOR EACH ROW EXECUTE FUNCTION {name}_finding()"
        )
    first = "(array_agg(id ORDER BY magnitude DESC))[1]"
    op.execute(_FILL.format(**_words("f", sqlite=False), first=first))


def downgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    for name in ("count", "uncount"):
        if sqlite:
            op.execute(f"DROP TRIGGER {name}_finding")
        else:
            op.execute(f"DROP FUNCTION {name}_finding() CASCADE")
    op.drop_table("finding_counts")
    for table, each in _OLD.items():
        for columns in each:
            op.create_index("_".join(("ix", table, *columns)), table, list(columns))
    for table, each in _NEW.items():
        for columns in each:
            op.drop_index("_".join(("ix", table, *columns, "id")), table_name=table)
    for side in ("a", "b"):
        op.execute(f"ALTER TABLE comparisons DROP COLUMN zoo_{side}")
