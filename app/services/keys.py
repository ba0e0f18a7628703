"""API keys: make, list, revoke. The caller owns the transaction."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from app.db import keys
from app.db.clock import now
from app.db.key_tables import ApiKey
from app.domain.ids import new_id
from app.domain.keys import Allowance, digest, new_token, shown
from app.domain.teams import NAME, NAMING
from app.errors import InvalidError, NotFoundError
from app.services.submission import Caller, earlier

if TYPE_CHECKING:
    import uuid

    from sqlalchemy.orm import Session

    from app.db.paging import Selection
    from app.settings import Settings

DEFAULT_DAYS = 365
"""Days that a key is valid unless something else is asked for."""


def create(
    session: Session, settings: Settings, request: dict[str, Any], caller: Caller | None = None
) -> dict[str, Any]:
    """Make a key ``{name, team, scope, expires_in_days, requests_per_minute?, submissions_per_day?}``.

    Returns it as JSON, this once with the key itself as ``token``: it is stored nowhere, so who asks again by the same
    ``Idempotency-Key`` gets None there. Raises InvalidError for what is no team's name.
    """
    key_id = new_id()
    if before := earlier(session, caller or Caller(), kind="key", request=request, resource_id=key_id):
        return show(session, before) | {"token": None}
    if not NAME.fullmatch(request["team"]):
        raise InvalidError(f"{request['team']!r} is no team: {NAMING}", slug="invalid-team")
    token, days = new_token(), request["expires_in_days"]
    row = ApiKey(
        id=key_id,
        name=request["name"],
        team=request["team"],
        scope=request["scope"],
        digest=digest(token),
        shown=shown(token),
        requests_per_minute=request.get("requests_per_minute") or settings.key_requests_per_minute,
        submissions_per_day=request.get("submissions_per_day") or settings.key_submissions_per_day,
        expires_at=None if days is None else now() + timedelta(days=days),
        created_at=now(),
    )
    session.add(row)
    session.flush()
    return _to_json(row, None) | {"token": token}


def find(session: Session, wanted: Selection) -> dict[str, Any]:
    """Return a page of the keys that are wanted as JSON, without the keys themselves."""
    page = keys.LISTED.page(session, wanted)
    used = keys.last_windows(session, [row.id for row in page.items])
    return page.map(lambda row: _to_json(row, used.get(row.id)))


def show(session: Session, key_id: uuid.UUID) -> dict[str, Any]:
    """Return a key as JSON, without the key itself; raises NotFoundError."""
    row = keys.get(session, key_id)
    if row is None:
        raise NotFoundError(f"There is no key {key_id}; `zooaudit keys list` shows all.")
    return _to_json(row, keys.last_windows(session, [key_id]).get(key_id))


def revoke(session: Session, key_id: uuid.UUID) -> dict[str, Any]:
    """Revoke a key for good; return it as JSON. Twice is the same as once. Raises NotFoundError."""
    show(session, key_id)
    keys.revoke(session, key_id)
    return show(session, key_id)


def _to_json(row: ApiKey, last_minute: int | None) -> dict[str, Any]:
    used = None if last_minute is None else datetime.fromtimestamp(last_minute * Allowance.REQUESTS.window_s, UTC)
    expired = row.expires_at is not None and row.expires_at <= now()
    return {
        "id": str(row.id),
        "name": row.name,
        "team": row.team,
        "scope": row.scope,
        "shown": row.shown,
        "state": "revoked" if row.revoked_at else "expired" if expired else "valid",
        "requests_per_minute": row.requests_per_minute,
        "submissions_per_day": row.submissions_per_day,
        "created_at": row.created_at.isoformat(),
        "expires_at": row.expires_at.isoformat() if row.expires_at else None,
        "revoked_at": row.revoked_at.isoformat() if row.revoked_at else None,
        "last_used_on": used.date().isoformat() if used else None,
    }
