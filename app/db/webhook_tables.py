"""The tables of webhooks: who is told, of what, and how each telling went. Times are UTC."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.clock import now
from app.db.tables import Base
from app.db.teams import Owned
from app.domain.ids import new_id

_PENDING = text("state = 'pending'")


class Webhook(Owned, Base):
    """An address that is told of events of what its team may see.

    Messages are signed with ``secret``, and until ``old_secret_until`` with the one before as well. ``failing_since``
    is the first failed attempt since the last success; ``disabled_reason`` says why the service disabled it itself.
    """

    __tablename__ = "webhooks"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    description: Mapped[str] = mapped_column(String(200))
    url: Mapped[str] = mapped_column(String(2000))
    events: Mapped[list[Any]]
    enabled: Mapped[bool]
    secret: Mapped[str] = mapped_column(String(100))
    old_secret: Mapped[str | None] = mapped_column(String(100))
    old_secret_until: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    disabled_reason: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[datetime] = mapped_column(default=now)
    changed_at: Mapped[datetime] = mapped_column(default=now)


class WebhookEvent(Base):
    """Something that happened, written in the transaction in which it did. Its id is that of every message of it.

    ``body`` is what is sent, made once by whoever first sends it: every attempt sends the same bytes.
    """

    __tablename__ = "webhook_events"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    type: Mapped[str] = mapped_column(String(50))
    subject_id: Mapped[uuid.UUID]
    body: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)


class WebhookDelivery(Base):
    """One event on its way to one webhook.

    ``attempts`` counts all, ``earlier_attempts`` those before it was last asked for again. ``next_attempt_at`` is when
    it is tried again, also after a sender that died: while one is at work, it is the end of that one's time.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("webhook_id", "event_id"),
        Index("ix_webhook_deliveries_webhook_id_created_at_id", "webhook_id", "created_at", "id"),
        Index("ix_webhook_deliveries_pending", "next_attempt_at", sqlite_where=_PENDING, postgresql_where=_PENDING),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    webhook_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    event_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("webhook_events.id", ondelete="CASCADE"), index=True)
    state: Mapped[str] = mapped_column(String(20))
    attempts: Mapped[int] = mapped_column(default=0)
    earlier_attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]


class WebhookAttempt(Base):
    """One attempt: the status that came back, or the error. Neither: it is under way, or its sender died."""

    __tablename__ = "webhook_attempts"

    delivery_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    started_at: Mapped[datetime]
    duration_ms: Mapped[float | None]
    status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(String(500))
