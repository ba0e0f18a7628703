"""Model files that teams uploaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exists, func, or_, select

from app.db import comparisons
from app.db.paging import Listed
from app.db.tables import Comparison
from app.db.teams import acting, as_team, own_first
from app.db.upload_tables import Upload
from app.domain.states import FINAL
from app.domain.teams import SHARED

if TYPE_CHECKING:
    import uuid

    from sqlalchemy.orm import Session

_LOCK = 0x7A6F6F62  # "zoob": the advisory lock's number, one for the whole database

LISTED = Listed(
    Upload,
    Upload.id,
    sorts={"created_at": Upload.created_at, "name": Upload.name},
    sort="-created_at",
    filters={"sha256": None},
)


def get(session: Session, upload_id: uuid.UUID) -> Upload | None:
    """Return one upload that the session's team may see."""
    return session.scalar(select(Upload).where(Upload.id == upload_id))


def by_digest(session: Session, sha256: str) -> Upload | None:
    """Return the upload of these bytes that the session's team may see: its own, else a shared one.

    It stays until the transaction ends: who removes it then finds what was made with it.
    """
    same = select(Upload).where(Upload.sha256 == sha256).order_by(own_first(session, Upload.team))
    return session.scalar(same.limit(1).with_for_update(read=True))


def hold(session: Session) -> None:
    """Keep others from adding and removing uploads, and so from their files, until this transaction ends."""
    if session.get_bind().dialect.name == "postgresql":  # on SQLite writers take turns anyway
        session.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def keep(session: Session, upload: Upload) -> tuple[Upload, bool]:
    """Store an upload unless its team has these bytes already; return what is stored, and whether it is new.

    Needs ``hold``.
    """
    own = select(Upload).where(Upload.sha256 == upload.sha256, Upload.team == acting(session))
    if (known := session.scalar(own)) is not None:
        return known, False
    session.add(upload)
    session.flush()
    return upload, True


def stored_bytes(session: Session) -> int:
    """Return how many bytes the uploads of the session's team have together."""
    return int(session.scalar(select(func.sum(Upload.bytes)).where(Upload.team == acting(session))) or 0)


def used_by(session: Session, upload: Upload, ref: str) -> uuid.UUID | None:
    """Return a comparison that has not ended and needs an upload, which has a reference; None when none does."""
    with as_team(session, None):
        session.refresh(upload, with_for_update=True)
        open_ = Comparison.state.not_in(FINAL) & ~comparisons.broken()
        needing = select(Comparison.id).where(or_(Comparison.a_ref == ref, Comparison.b_ref == ref), open_)
        if upload.team != SHARED:
            needing = needing.where(Comparison.team == upload.team)
        return session.scalar(needing.limit(1))


def remove(session: Session, upload: Upload) -> bool:
    """Delete an upload; say whether another team has the same bytes. Needs ``hold``."""
    session.delete(upload)
    session.flush()
    with as_team(session, None):
        return bool(session.scalar(select(exists().where(Upload.sha256 == upload.sha256))))
