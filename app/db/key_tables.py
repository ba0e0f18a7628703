"""The tables of API keys, what they have used, and what was done with them. Times are UTC."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.clock import now
from app.db.tables import Base
from app.domain.ids import new_id


class ApiKey(Base):
    """A key: its SHA-256 and its first letters. Rows are never deleted, because with none no key is asked for."""

    __tablename__ = "api_keys"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(200))
    team: Mapped[str] = mapped_column(String(100), index=True)
    scope: Mapped[str] = mapped_column(String(20))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    shown: Mapped[str] = mapped_column(String(20))
    requests_per_minute: Mapped[int]
    submissions_per_day: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class KeyUse(Base):
    """How much of an allowance (``requests``, ``submissions``) a key has taken in the latest window.

    ``window`` is the number of minutes or days since 1970 by the database's clock.
    """

    __tablename__ = "key_uses"

    key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    allowance: Mapped[str] = mapped_column(String(20), primary_key=True)
    window: Mapped[int] = mapped_column(BigInteger)
    used: Mapped[int]


class Activity(Base):
    """One request that changed something or tried to, or that looked at keys.

    Rows are only ever added: triggers refuse to change or delete one.
    """

    __tablename__ = "activity"
    __table_args__ = (
        Index("ix_activity_at_id", "at", "id"),
        Index("ix_activity_team_id", "team", "id"),
        Index("ix_activity_key_id_id", "key_id", "id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    at: Mapped[datetime] = mapped_column(default=now)
    key_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("api_keys.id"))
    team: Mapped[str] = mapped_column(String(100))
    method: Mapped[str] = mapped_column(String(10))
    route: Mapped[str] = mapped_column(String(300))
    path: Mapped[str] = mapped_column(String(2000))
    made: Mapped[str | None] = mapped_column(String(500))
    status: Mapped[int]
    client: Mapped[str | None] = mapped_column(String(100))
    request_id: Mapped[str] = mapped_column(String(100))
