"""What looking through references needs: an index that holds what lists of listings are filtered by."""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_listings_filtered", "listings", ["ref", "id", "team", "zoo", "name", "is_default", "label_space"]
    )


def downgrade() -> None:
    op.drop_index("ix_listings_filtered", table_name="listings")
