"""Listings that could not be audited safely, with the reason."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "unsafe_listings",
        sa.Column("ref", sa.String(length=2000), nullable=False),
        sa.Column("code", sa.String(length=100), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("evidence", _JSON, nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_unsafe_listings_job_id_jobs")),
        sa.PrimaryKeyConstraint("ref", name=op.f("pk_unsafe_listings")),
    )


def downgrade() -> None:
    """Lose unsafe_listings."""
    op.drop_table("unsafe_listings")
