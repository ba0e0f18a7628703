"""Schedules and their runs; what each audit found listed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("cron", sa.String(length=200), nullable=False),
        sa.Column("time_zone", sa.String(length=100), nullable=False),
        sa.Column("missed", sa.String(length=10), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("request", _JSON, nullable=False),
        sa.Column("next_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sa.UniqueConstraint("name", name=op.f("uq_schedules_name")),
    )
    op.create_index(op.f("ix_schedules_next_due_at"), "schedules", ["next_due_at"])
    op.create_table(
        "scheduled_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("audit_id", sa.Uuid(), nullable=True),
        sa.Column("error", _JSON, nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["schedule_id"],
            ["schedules.id"],
            name=op.f("fk_scheduled_runs_schedule_id_schedules"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["audit_id"], ["audits.id"], name=op.f("fk_scheduled_runs_audit_id_audits")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scheduled_runs")),
        sa.UniqueConstraint("schedule_id", "due_at", name=op.f("uq_scheduled_runs_schedule_id_due_at")),
        sa.UniqueConstraint("audit_id", name=op.f("uq_scheduled_runs_audit_id")),
    )
    op.create_table(
        "listing_versions",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("ref", sa.String(length=500), nullable=False),
        sa.Column("described", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_listing_versions")),
    )
    op.create_table(
        "audit_listings",
        sa.Column("audit_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["audit_id"], ["audits.id"], name=op.f("fk_audit_listings_audit_id_audits"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["digest"], ["listing_versions.digest"], name=op.f("fk_audit_listings_digest_listing_versions")
        ),
        sa.PrimaryKeyConstraint("audit_id", "digest", name=op.f("pk_audit_listings")),
    )
    op.create_index("ix_audit_listings_digest", "audit_listings", ["digest"])


def downgrade() -> None:
    """Lose schedules, scheduled_runs, listing_versions and audit_listings."""
    for table in ("audit_listings", "listing_versions", "scheduled_runs", "schedules"):
        op.drop_table(table)
