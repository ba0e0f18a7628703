"""Model files that teams uploaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.db.paging import Listed
from app.db.teams import acting, own_first
from app.db.upload_tables import Upload

if TYPE_CHECKING:
    import uuid

    from sqlalchemy.orm import Session


LISTED = Listed(Upload, Upload.id, sorts={"created_at": Upload.created_at, "name": Upload.name}, sort="-created_at")


def get(session: Session, upload_id: uuid.UUID) -> Upload | None:
    """Return one upload that the session's team may see."""
    return session.scalar(select(Upload).where(Upload.id == upload_id))


def by_digest(session: Session, sha256: str) -> Upload | None:
    """Return the upload of these bytes that the session's team may see: its own, else a shared one."""
    same = select(Upload).where(Upload.sha256 == sha256).order_by(own_first(session, Upload.team))
    return session.scalar(same.limit(1))


def keep(session: Session, upload: Upload) -> tuple[Upload, bool]:
    """Store an upload unless its team has these bytes already; return what is stored, and whether it is new."""
    own = select(Upload).where(Upload.sha256 == upload.sha256, Upload.team == acting(session))
    if (known := session.scalar(own)) is not None:
        return known, False
    try:
        with session.begin_nested():
            session.add(upload)
            session.flush()
    except IntegrityError:
        return session.scalars(own).one(), False
    return upload, True
