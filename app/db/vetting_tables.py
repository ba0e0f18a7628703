"""The tables of policies and vettings."""

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


class PolicyVersion(Owned, Base):
    """What a policy said from one time on; ``content`` is its JSON without the version. Never changed."""

    __tablename__ = "policies"
    __table_args__ = (UniqueConstraint("team", "name", "version", name="uq_policies_team_name_version"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(100))
    version: Mapped[int]
    content: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Vetting(Owned, Base):
    """A comparison (A the candidate, B the reference) and the policy that decides on it, as it was then.

    The decision follows from the two, and is not stored.
    """

    __tablename__ = "vettings"
    __table_args__ = (Index("ix_vettings_team", "team"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    comparison_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("comparisons.id"), index=True)
    policy: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now)
