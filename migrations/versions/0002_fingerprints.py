"""Fingerprints and vectors of listings, and which job indexed a zoo."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "structures",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("length", sa.Double(), nullable=False),
        sa.Column("nodes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_structures")),
    )
    op.create_table(
        "fingerprints",
        sa.Column("listing_id", sa.Uuid(), nullable=False),
        sa.Column("zoo", sa.String(length=100), nullable=False),
        sa.Column("subject", sa.String(length=500), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("measurement_id", sa.Uuid(), nullable=True),
        sa.Column("error", _JSON, nullable=True),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["fingerprint"], ["structures.fingerprint"], name=op.f("fk_fingerprints_fingerprint_structures")
        ),
        sa.ForeignKeyConstraint(
            ["listing_id"],
            ["listings.id"],
            name=op.f("fk_fingerprints_listing_id_listings"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["measurement_id"], ["measurements.id"], name=op.f("fk_fingerprints_measurement_id_measurements")
        ),
        sa.PrimaryKeyConstraint("listing_id", name=op.f("pk_fingerprints")),
    )
    op.create_index(op.f("ix_fingerprints_fingerprint"), "fingerprints", ["fingerprint"])
    op.create_index("ix_fingerprints_zoo_subject", "fingerprints", ["zoo", "subject"])
    op.create_table(
        "zoo_indexes",
        sa.Column("zoo", sa.String(length=100), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_zoo_indexes_job_id_jobs")),
        sa.PrimaryKeyConstraint("zoo", name=op.f("pk_zoo_indexes")),
    )


def downgrade() -> None:
    """Lose fingerprints, structures and zoo_indexes; indexing the zoos again makes them."""
    op.drop_table("zoo_indexes")
    op.drop_index("ix_fingerprints_zoo_subject", table_name="fingerprints")
    op.drop_index(op.f("ix_fingerprints_fingerprint"), table_name="fingerprints")
    op.drop_table("fingerprints")
    op.drop_table("structures")
