"""What the zoos publish, as far as their catalogs were read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.db import listings, safety
from app.errors import NotFoundError

if TYPE_CHECKING:
    import uuid

    from sqlalchemy.orm import Session

    from app.db.paging import Selection
    from app.db.safety_tables import UnsafeListing
    from app.db.tables import Listing


def find(session: Session, wanted: Selection) -> dict[str, Any]:
    """Return a page of the listings that are wanted as JSON."""
    page = listings.LISTED.page(session, wanted)
    unsafe = safety.of(session, [row.ref for row in page.items])
    return page.map(lambda row: to_json(row, unsafe.get(row.ref)))


def show(session: Session, listing_id: uuid.UUID) -> dict[str, Any]:
    """Return one listing as JSON; raises NotFoundError."""
    listing = listings.get(session, listing_id)
    if listing is None:
        raise NotFoundError(f"There is no listing {listing_id}; its zoo may have stopped publishing it.")
    return to_json(listing, safety.of(session, [listing.ref]).get(listing.ref))


def to_json(listing: Listing, unsafe: UnsafeListing | None) -> dict[str, Any]:
    """Return a listing as JSON."""
    row = vars(listing)  # as in ``findings.to_json``
    return {
        "id": str(row["id"]),
        "ref": row["ref"],
        "zoo": row["zoo"],
        "name": row["name"],
        "weights": row["weights"],
        "architecture": row["architecture"],
        "default": row["is_default"],
        "label_space": row["label_space"],
        "classes": row["classes"],
        "contract": row["contract"],
        "claims": row["claims"],
        "licence": row["licence"],
        "runtimes": row["runtimes"],
        "unsafe": None
        if unsafe is None
        else {
            "code": unsafe.code,
            "message": unsafe.message,
            "evidence": unsafe.evidence,
            "found_at": unsafe.found_at.isoformat(),
        },
    }
