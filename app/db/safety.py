"""Listings that could not be audited safely."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, select

from app.db import listings
from app.db.clock import now
from app.db.safety_tables import UnsafeListing

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection

    from sqlalchemy.orm import Session


def keep(session: Session, subject: dict[str, Any], error: dict[str, Any], *, job_id: uuid.UUID) -> None:
    """Store why a listing is unsafe, in the place of what was known; ``error`` is a failure's JSON."""
    row = session.merge(UnsafeListing(ref=_listed(session, subject), found_at=now(), job_id=job_id))
    row.code, row.message, row.evidence = error["code"], error["message"], error.get("evidence", {})
    session.flush()


def forget(session: Session, ref: str) -> None:
    """Remove what made a listing unsafe: it was loaded."""
    session.execute(delete(UnsafeListing).where(UnsafeListing.ref == ref))


_OF = select(UnsafeListing).where(UnsafeListing.ref.in_(bindparam("refs", expanding=True)))
"""Made once: making it takes longer than Postgres takes to answer it."""


def of(session: Session, refs: Collection[str]) -> dict[str, UnsafeListing]:
    """Return those of these listings that are unsafe, by reference."""
    return {row.ref: row for row in session.scalars(_OF, {"refs": list(refs)})}


def _listed(session: Session, subject: dict[str, Any]) -> str:
    """Return the full reference of what was asked for, as far as a catalog knows it."""
    model, wanted = (subject["zoo"], subject["name"]), subject["weights"]
    found = listings.named(session, [model])[model]
    row = next((each for each in found if each.weights == wanted or (wanted is None and each.is_default)), None)
    return str(subject["ref"]) if row is None else row.ref
