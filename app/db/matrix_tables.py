"""The table behind the matrix of zoos. The database keeps it itself, by triggers: no writer of findings knows of it."""

from __future__ import annotations

import uuid

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.tables import Base
from app.db.teams import Owned

EVERYTHING = ""
"""The scope of all findings."""


class FindingCount(Owned, Base):
    """How many findings of a scope there are of two zoos in a dimension with a verdict, and the largest of them.

    ``scope`` is empty for all, ``architecture:KEY`` or ``audit:`` and the 32 hexadecimal digits of its id. ``worst`` is
    the largest magnitude, ``worst_id`` its finding.
    """

    __tablename__ = "finding_counts"

    team: Mapped[str] = mapped_column(String(100), primary_key=True)
    scope: Mapped[str] = mapped_column(String(250), primary_key=True)
    dimension: Mapped[str] = mapped_column(String(20), primary_key=True)
    zoo_a: Mapped[str] = mapped_column(String(100), primary_key=True)
    zoo_b: Mapped[str] = mapped_column(String(100), primary_key=True)
    verdict: Mapped[str] = mapped_column(String(20), primary_key=True)
    findings: Mapped[int]
    worst: Mapped[float]
    worst_id: Mapped[uuid.UUID]
