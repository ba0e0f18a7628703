"""What a data set's format needs besides its path."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    with op.batch_alter_table("datasets") as table:
        table.add_column(sa.Column("options", _JSON, nullable=True))
    op.execute(sa.text("UPDATE datasets SET options = '{}'"))
    with op.batch_alter_table("datasets") as table:
        table.alter_column("options", existing_type=_JSON, nullable=False)


def downgrade() -> None:
    """Lose the options of datasets."""
    with op.batch_alter_table("datasets") as table:
        table.drop_column("options")
