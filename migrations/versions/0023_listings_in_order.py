"""What looking through references needs to stop at a full page: indexes in each order that hold reference and team."""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_listings_ref_id", "listings", ["ref", "id", "team"])
    op.drop_index("ix_listings_name_id", table_name="listings")
    op.create_index("ix_listings_name_id", "listings", ["name", "id", "ref", "team"])


def downgrade() -> None:
    op.drop_index("ix_listings_name_id", table_name="listings")
    op.create_index("ix_listings_name_id", "listings", ["name", "id"])
    op.drop_index("ix_listings_ref_id", table_name="listings")
