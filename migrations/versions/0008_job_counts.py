"""What operating the service needs of jobs: how often a lease was lost, and those that ended since a time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ENDED = sa.text("finished_at IS NOT NULL")


def upgrade() -> None:
    # The default is the database's: the previous version adds jobs without knowing of the column.
    op.add_column("jobs", sa.Column("lease_losses", sa.Integer(), server_default="0", nullable=False))
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"], sqlite_where=_ENDED, postgresql_where=_ENDED)


def downgrade() -> None:
    """Lose the lease_losses of jobs."""
    op.drop_index("ix_jobs_finished_at", table_name="jobs", sqlite_where=_ENDED, postgresql_where=_ENDED)
    with op.batch_alter_table("jobs") as batch_op:
        batch_op.drop_column("lease_losses")
