"""Uploads: a model from a file that nobody else published. What it is, a worker tells when it is looked at."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from typing import TYPE_CHECKING, Any, Self

from app.db import comparisons, uploads
from app.db.teams import check_own
from app.db.upload_tables import Upload
from app.domain.ids import new_id
from app.domain.references import UPLOAD
from app.domain.storage import partial_folder, upload_path
from app.errors import ConflictError, InvalidError, NotFoundError, StorageFullError, TooLargeError

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

    from app.db.paging import Selection
    from app.settings import Settings

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Incoming:
    """A file on its way in: written and hashed as it comes. Use as a context manager; what is not kept is removed.

    Raises TooLargeError as soon as it is larger than the settings allow, StorageFullError when the disk is full.
    """

    def __init__(self, settings: Settings) -> None:
        self._data_dir, self._most = settings.data_dir, settings.upload_bytes
        self._digest = hashlib.sha256()
        self._partial = partial_folder(settings.data_dir) / uuid.uuid4().hex
        self.size = 0

    def __enter__(self) -> Self:
        """Begin a file of its own."""
        try:
            self._partial.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("xb")
        except OSError as error:
            raise _told(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was not kept."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def check(self, size: int) -> None:
        """Raise TooLargeError for a size that is not allowed."""
        if size > self._most:
            raise TooLargeError(
                f"The file is larger than the {self._most} bytes that ZOOAUDIT_UPLOAD_BYTES allows; list it in a zoo "
                "of your own (docs/local-zoos.md), or ask the operator for more."
            )

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self.check(self.size + len(chunk))
        try:
            self._file.write(chunk)
        except OSError as error:
            raise _told(error) from error
        self._digest.update(chunk)
        self.size += len(chunk)

    def seal(self) -> str:
        """Bring everything to the disk; return the SHA-256 (hex). Raises InvalidError when nothing came."""
        if not self.size:
            raise InvalidError("The file is empty; send the model's bytes as the body.", slug="empty-upload")
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _told(error) from error
        return self._digest.hexdigest()

    def publish(self, sha256: str) -> None:
        """Give the file its final name, unless its bytes lie there already."""
        target = upload_path(self._data_dir, sha256)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            self._partial.chmod(0o444)
            self._partial.replace(target)


def _told(error: OSError) -> Exception:
    if error.errno not in _FULL:
        return error
    return StorageFullError(
        "The service has no room for the file, of which nothing was kept; the operator has to make room."
    )


def keep(
    session: Session, settings: Settings, incoming: Incoming, sha256: str, name: str
) -> tuple[dict[str, Any], bool]:
    """Store a sealed file; return it as JSON, and whether its team did not have it yet.

    Raises TooLargeError when the team's uploads have no room for it.
    """
    uploads.hold(session)
    found, new = uploads.keep(session, Upload(id=new_id(), name=name, sha256=sha256, bytes=incoming.size))
    most = settings.upload_team_bytes
    if new and (stored := uploads.stored_bytes(session)) > most:
        raise TooLargeError(
            f"With these {incoming.size:,} bytes the team's uploads would have {stored:,}, more than the {most:,} that "
            "ZOOAUDIT_UPLOAD_TEAM_BYTES allows; delete some that are needed no more, or ask the operator for more.",
            slug="upload-quota",
        )
    incoming.publish(sha256)
    return to_json(found), new


def remove(session: Session, settings: Settings, upload_id: uuid.UUID) -> None:
    """Delete an upload, and its file unless another team has the same bytes; what was measured of it stays.

    Raises NotFoundError, ForbiddenError for a shared one, and ConflictError while a comparison needs it.
    """
    uploads.hold(session)
    row = _row(session, upload_id)
    check_own(session, row)
    if (comparison_id := uploads.used_by(session, row, _ref(row))) is not None:
        seen = f"comparison {comparison_id}" if comparisons.get(session, comparison_id) else "another team's comparison"
        raise ConflictError(
            f"Upload {upload_id} is needed by {seen}, which has not ended; wait for it, or cancel it.",
            slug="upload-in-use",
        )
    if not uploads.remove(session, row):
        # Before the commit, while nobody else adds these bytes. If it fails, uploading them again brings them back.
        upload_path(settings.data_dir, row.sha256).unlink(missing_ok=True)


def add(session: Session, settings: Settings, path: Path) -> dict[str, Any]:
    """Store a file of this machine; return it as JSON. Raises InvalidError when it cannot be read."""
    with Incoming(settings) as incoming:
        try:
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    incoming.write(chunk)
        except OSError as error:
            raise InvalidError(
                f"{path} cannot be read ({error.strerror}); check the path.", slug="unreadable"
            ) from error
        return keep(session, settings, incoming, incoming.seal(), path.name[:200])[0]


def find(session: Session, wanted: Selection) -> dict[str, Any]:
    """Return a page of uploads as JSON."""
    return uploads.LISTED.page(session, wanted).map(to_json)


def show(session: Session, upload_id: uuid.UUID) -> dict[str, Any]:
    """Return one upload as JSON; raises NotFoundError."""
    return to_json(_row(session, upload_id))


def named(session: Session, ref: str) -> uuid.UUID:
    """Return the id of the upload of a reference, a team's own before a shared one; raises NotFoundError."""
    found = uploads.by_digest(session, ref.removeprefix(f"{UPLOAD}:"))
    if found is None:
        raise NotFoundError(f"There is no upload {ref}; `zooaudit uploads list` lists what there is.")
    return found.id


def _row(session: Session, upload_id: uuid.UUID) -> Upload:
    if (found := uploads.get(session, upload_id)) is None:
        raise NotFoundError(f"There is no upload {upload_id}.")
    return found


def _ref(upload: Upload) -> str:
    return f"{UPLOAD}:{upload.sha256}"


def to_json(upload: Upload) -> dict[str, Any]:
    """Return an upload as JSON; ``ref`` is how comparisons and vettings name it."""
    return {
        "id": str(upload.id),
        "ref": _ref(upload),
        "name": upload.name,
        "sha256": upload.sha256,
        "bytes": upload.bytes,
        "created_at": upload.created_at.isoformat(),
    }
