"""When a measurement's files were last reused and deleted; indexes to find what has been kept long enough."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_KEPT = sa.text("files_deleted_at IS NULL")


def upgrade() -> None:
    op.add_column("measurements", sa.Column("files_used_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("measurements", sa.Column("files_deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_measurements_files_kept", "measurements", ["created_at"], sqlite_where=_KEPT, postgresql_where=_KEPT
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])


def downgrade() -> None:
    """Lose files_used_at and files_deleted_at of measurements."""
    op.drop_index(op.f("ix_idempotency_keys_created_at"), table_name="idempotency_keys")
    op.drop_index("ix_measurements_files_kept", table_name="measurements", sqlite_where=_KEPT, postgresql_where=_KEPT)
    with op.batch_alter_table("measurements") as batch_op:
        batch_op.drop_column("files_deleted_at")
        batch_op.drop_column("files_used_at")
