"""What looking through references needs to stop at a full page: indexes in each order that hold reference and team."""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_WIDENED = {
    "ix_listings_name_id": (["name", "id"], ["ref", "team"]),
    "ix_listings_weights_ref_id": (["weights", "ref", "id"], ["team"]),
}


def upgrade() -> None:
    op.create_index("ix_listings_ref_id", "listings", ["ref", "id", "team"])
    for name, (columns, more) in _WIDENED.items():
        op.drop_index(name, table_name="listings")
        op.create_index(name, "listings", [*columns, *more])


def downgrade() -> None:
    for name, (columns, _) in _WIDENED.items():
        op.drop_index(name, table_name="listings")
        op.create_index(name, "listings", columns)
    op.drop_index("ix_listings_ref_id", table_name="listings")
