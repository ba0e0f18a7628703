"""What listings took, run by run, so that a change over time is seen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "latency_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("ref", sa.String(length=1000), nullable=False),
        sa.Column("artifact_sha256", sa.String(length=64), nullable=True),
        sa.Column("point", _JSON, nullable=False),
        sa.Column("point_key", sa.String(length=64), nullable=False),
        sa.Column("hardware", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("machine", sa.String(length=1000), nullable=False),
        sa.Column("software", _JSON, nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("measurement_id", sa.Uuid(), nullable=False),
        sa.Column("median_ms", sa.Double(), nullable=False),
        sa.Column("p90_ms", sa.Double(), nullable=True),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("blocks", sa.Integer(), nullable=False),
        sa.Column("busy_beside", sa.Double(), nullable=True),
        sa.Column("void", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact_sha256"], ["artifacts.sha256"], name=op.f("fk_latency_runs_artifact_sha256_artifacts")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_latency_runs_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["measurement_id"], ["measurements.id"], name=op.f("fk_latency_runs_measurement_id_measurements")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_latency_runs")),
        sa.UniqueConstraint("job_id", "ref", "point_key", name=op.f("uq_latency_runs_job_id_ref_point_key")),
    )
    op.create_index("ix_latency_runs_ref_created_at_id", "latency_runs", ["ref", "created_at", "id"])


def downgrade() -> None:
    """Lose latency_runs."""
    op.drop_index("ix_latency_runs_ref_created_at_id", table_name="latency_runs")
    op.drop_table("latency_runs")
