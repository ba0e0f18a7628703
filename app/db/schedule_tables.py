"""The tables of schedules, and of what an audit found listed. Times are UTC."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.clock import now
from app.db.tables import Base
from app.db.teams import Owned
from app.domain.ids import new_id


class Schedule(Owned, Base):
    """An audit that comes due again and again.

    ``next_due_at`` is the first due time that was not dealt with yet; null while the schedule is disabled.
    """

    __tablename__ = "schedules"
    __table_args__ = (UniqueConstraint("team", "name", name="uq_schedules_team_name"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(200))
    cron: Mapped[str] = mapped_column(String(200))
    time_zone: Mapped[str] = mapped_column(String(100))
    missed: Mapped[str] = mapped_column(String(10))
    enabled: Mapped[bool]
    request: Mapped[dict[str, Any]]
    next_due_at: Mapped[datetime | None] = mapped_column(index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    changed_at: Mapped[datetime] = mapped_column(default=now)


class ScheduledRun(Base):
    """What one due time of a schedule led to: an audit, or the reason why there is none."""

    __tablename__ = "scheduled_runs"
    # However many schedulers there are, a due time runs once.
    __table_args__ = (UniqueConstraint("schedule_id", "due_at"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    schedule_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("schedules.id", ondelete="CASCADE"))
    due_at: Mapped[datetime]
    audit_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("audits.id"), unique=True)
    error: Mapped[dict[str, Any] | None]
    started_at: Mapped[datetime]


class ListingVersion(Base):
    """What a zoo said of a listing at some time. ``digest`` is the SHA-256 of the reference and what was said."""

    __tablename__ = "listing_versions"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    ref: Mapped[str] = mapped_column(String(500))
    described: Mapped[dict[str, Any]]


class AuditListing(Base):
    """That an audit found a listing among those it was asked for, and what its zoo then said of it."""

    __tablename__ = "audit_listings"
    __table_args__ = (Index("ix_audit_listings_digest", "digest"),)

    audit_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("audits.id", ondelete="CASCADE"), primary_key=True)
    digest: Mapped[str] = mapped_column(ForeignKey("listing_versions.digest"), primary_key=True)
