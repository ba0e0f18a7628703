"""Vettings: rows that tie a comparison to the policy that decides on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.db.paging import Listed
from app.db.vetting_tables import Vetting

if TYPE_CHECKING:
    import uuid

    from sqlalchemy.orm import Session


def get(session: Session, vetting_id: uuid.UUID) -> Vetting | None:
    """Return one vetting."""
    return session.get(Vetting, vetting_id)


LISTED = Listed(
    Vetting, Vetting.id, sorts={"created_at": Vetting.created_at}, sort="-created_at", filters={"comparison_id": None}
)
