"""Who did what: one row for every request that changed something or tried to, or that looked at keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.db import activity
from app.db.key_tables import Activity
from app.domain.keys import without_tokens

if TYPE_CHECKING:
    import uuid

    from sqlalchemy.orm import Session

    from app.db.paging import Selection


@dataclass(frozen=True)
class Deed:
    """What a request did. ``made`` is the address of what it made; ``client`` the address that it came from."""

    key_id: uuid.UUID | None
    team: str
    method: str
    route: str
    path: str
    made: str | None
    status: int
    client: str | None
    request_id: str


def add(session: Session, deed: Deed) -> None:
    """Store a deed; a key that stands where none belongs is cut short."""
    cut = {name: without_tokens(getattr(deed, name)) for name in ("path", "request_id")}
    row = Activity(**(vars(deed) | cut))
    row.path = row.path[:2000]
    session.add(row)
    session.flush()


def find(session: Session, wanted: Selection) -> dict[str, Any]:
    """Return a page of the deeds that are wanted as JSON, the latest first."""
    return activity.LISTED.page(session, wanted).map(_to_json)


def _to_json(row: Activity) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "at": row.at.isoformat(),
        "key_id": str(row.key_id) if row.key_id else None,
        "team": row.team,
        "method": row.method,
        "route": row.route,
        "path": row.path,
        "made": row.made,
        "status": row.status,
        "client": row.client,
        "request_id": row.request_id,
    }
