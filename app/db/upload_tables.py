"""The table of uploaded model files. Times are UTC."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.clock import now
from app.db.tables import Base
from app.db.teams import Owned
from app.domain.ids import new_id


class Upload(Owned, Base):
    """A file that a team uploaded. Its bytes lie once in the data folder, however many teams have them.

    ``name`` is what the caller called it, to be shown and nothing else.
    """

    __tablename__ = "uploads"
    # That another team has the same bytes says nothing to this one.
    __table_args__ = (UniqueConstraint("team", "sha256", name="uq_uploads_team_sha256"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=now)
