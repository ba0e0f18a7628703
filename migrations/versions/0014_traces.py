"""Jobs know the span that added them, so that their own go on from it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("traceparent", sa.String(length=55), nullable=True))


def downgrade() -> None:
    """Lose the traceparent of jobs."""
    with op.batch_alter_table("jobs") as batch_op:
        batch_op.drop_column("traceparent")
