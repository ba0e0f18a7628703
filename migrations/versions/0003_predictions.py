"""Predictions as a resource, and data sets that are known by their labels alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("datasets") as table:
        table.add_column(sa.Column("labels_digest", sa.String(length=71), nullable=True))
        table.alter_column("digest", type_=sa.String(length=71), existing_nullable=True)
    op.create_table(
        "predictions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("ref", sa.String(length=1000), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("recorded", sa.Boolean(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("measurement_id", sa.Uuid(), nullable=False),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("top1", sa.Double(), nullable=False),
        sa.Column("top5", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_predictions_dataset_id_datasets")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_predictions_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["measurement_id"], ["measurements.id"], name=op.f("fk_predictions_measurement_id_measurements")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_predictions")),
    )
    op.create_index(op.f("ix_predictions_ref"), "predictions", ["ref"])
    op.create_index("ix_predictions_dataset_id_ref_id", "predictions", ["dataset_id", "ref", "id"])


def downgrade() -> None:
    """Lose predictions, the labels_digest of datasets, and each digest of datasets that is longer than a SHA-256."""
    op.drop_index("ix_predictions_dataset_id_ref_id", table_name="predictions")
    op.drop_index(op.f("ix_predictions_ref"), table_name="predictions")
    op.drop_table("predictions")
    op.execute("UPDATE datasets SET digest = NULL WHERE length(digest) > 64")
    with op.batch_alter_table("datasets") as table:
        table.alter_column("digest", type_=sa.String(length=64), existing_nullable=True)
        table.drop_column("labels_digest")
