"""Vettings: rows that tie a comparison to the policy that decides on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from app.db.paging import Order, Page, page
from app.db.vetting_tables import Vetting

if TYPE_CHECKING:
    import uuid

    from sqlalchemy.orm import Session


def get(session: Session, vetting_id: uuid.UUID) -> Vetting | None:
    """Return one vetting."""
    return session.get(Vetting, vetting_id)


def find(session: Session, *, comparison_id: uuid.UUID | None, cursor: str | None, limit: int) -> Page[Vetting]:
    """Return a page of vettings, the newest first; of one comparison, or of all."""
    statement = select(Vetting)
    if comparison_id is not None:
        statement = statement.where(Vetting.comparison_id == comparison_id)
    order = Order("-created_at", Vetting.created_at, Vetting.id, descending=True)
    return page(session, statement, order, cursor=cursor, limit=limit)
