"""API keys, and how much of their allowances they have taken."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import case, exists, select, update
from sqlalchemy.dialects import postgresql, sqlite

from app.db.clock import now
from app.db.key_tables import ApiKey, KeyUse
from app.db.paging import Listed
from app.db.schedules import clock
from app.domain.keys import Allowance

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection

    from sqlalchemy.orm import Session

LISTED = Listed(
    ApiKey,
    ApiKey.id,
    sorts={"created_at": ApiKey.created_at, "name": ApiKey.name},
    sort="-created_at",
    filters={"team": None, "scope": None},
)


@dataclass(frozen=True)
class Taken:
    """How much of an allowance is taken in the present window, by all processes, and how long the window lasts."""

    used: int
    left_s: float


def any_exist(session: Session) -> bool:
    """Whether a key was ever made."""
    return bool(session.scalar(select(exists().where(ApiKey.id.is_not(None)))))


def get(session: Session, key_id: uuid.UUID) -> ApiKey | None:
    """Return one key."""
    return session.get(ApiKey, key_id)


def by_digest(session: Session, digest: str) -> ApiKey | None:
    """Return the key with this SHA-256."""
    return session.scalar(select(ApiKey).where(ApiKey.digest == digest))


def revoke(session: Session, key_id: uuid.UUID) -> None:
    """Revoke a key; the first time counts."""
    statement = update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None)).values(revoked_at=now())
    session.execute(statement.execution_options(synchronize_session="fetch"))


def take(session: Session, key_id: uuid.UUID, allowance: Allowance, amount: int) -> Taken:
    """Take an amount of an allowance; whether there was as much left is for the caller to judge.

    Windows are counted by the database's clock, the same for every process.
    """
    at = clock(session).timestamp()
    window = math.floor(at / allowance.window_s)
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    added = insert(KeyUse).values(key_id=key_id, allowance=allowance, window=window, used=amount)
    newer = added.excluded.window > KeyUse.window
    statement = added.on_conflict_do_update(
        index_elements=["key_id", "allowance"],
        set_={
            "window": case((newer, added.excluded.window), else_=KeyUse.window),
            "used": case((newer, added.excluded.used), else_=KeyUse.used + added.excluded.used),
        },
    ).returning(KeyUse.used)
    used = session.execute(statement).scalar_one()
    return Taken(used, (window + 1) * allowance.window_s - at)


def last_windows(session: Session, key_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, int]:
    """Return the latest minute, since 1970, in which each of these keys was used."""
    used = select(KeyUse.key_id, KeyUse.window).where(KeyUse.key_id.in_(key_ids))
    rows = session.execute(used.where(KeyUse.allowance == Allowance.REQUESTS))
    return {row.key_id: row.window for row in rows}
