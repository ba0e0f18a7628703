"""What recovering and following jobs needs: attempts that count, changes of the state, whose request made them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The default is the database's: the previous version adds jobs without knowing of the column.
    op.add_column("jobs", sa.Column("spent", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("change", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("request_id", sa.String(length=100), nullable=True))
    op.create_index("ix_jobs_change", "jobs", ["change"])


def downgrade() -> None:
    """Lose spent, change and request_id of jobs."""
    op.drop_index("ix_jobs_change", table_name="jobs")
    with op.batch_alter_table("jobs") as batch_op:
        batch_op.drop_column("request_id")
        batch_op.drop_column("change")
        batch_op.drop_column("spent")
