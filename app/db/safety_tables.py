"""The table of listings that could not be audited safely. Times are UTC."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.clock import now
from app.db.tables import Base


class UnsafeListing(Base):
    """What the last look at a listing found, where that was unsafe; a later one that loads it removes the row.

    ``evidence`` is what was seen, a scanner's word included. ``job_id`` is the job that looked.
    """

    __tablename__ = "unsafe_listings"

    ref: Mapped[str] = mapped_column(String(2000), primary_key=True)
    code: Mapped[str] = mapped_column(String(100))
    message: Mapped[str] = mapped_column(Text)
    evidence: Mapped[dict[str, Any]]
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id"))
    found_at: Mapped[datetime] = mapped_column(default=now)
