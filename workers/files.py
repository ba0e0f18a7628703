"""Measured files, stored once by the SHA-256 of their bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from app.domain.storage import file_path, partial_folder, upload_path

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Attempt:
    """Who writes a temporary file: one attempt at a job. As text, the beginning of the file's name."""

    job: uuid.UUID
    number: int

    def __str__(self) -> str:
        """Return the beginning of the names of this attempt's files."""
        return f"{self.job}.{self.number}"


def _of_attempts(folder: Path) -> list[tuple[Attempt, Path]]:
    """Return what lies in a folder for attempts; what has another name is not theirs."""
    found = []
    for path in folder.glob("*.*"):
        job, number = path.name.split(".")[:2]
        with contextlib.suppress(ValueError):
            found.append((Attempt(uuid.UUID(job), int(number)), path))
    return found


class FileStore:
    """The folder ``files`` of the data folder: ``ab/<sha256>``. Files are immutable once they have their name."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.root = data_dir / "files"

    def path(self, sha256: str) -> Path:
        """Return where the file of a digest lies, whether or not it is there."""
        return file_path(self._data_dir, sha256)

    def holds(self, path: str) -> bool:
        """Whether a path leads into the data folder."""
        return Path(path).resolve().is_relative_to(self._data_dir.resolve())

    def upload(self, sha256: str) -> Path:
        """Return where the uploaded file of a digest lies."""
        return upload_path(self._data_dir, sha256)

    def put(self, source: Path, attempt: Attempt) -> str:
        """Store a copy of a file that an attempt has made; return its SHA-256 (hex).

        The bytes are on the disk, under their final name, when this returns: a row that names them may be committed.
        Two processes may store the same bytes at once.
        """
        folder = partial_folder(self._data_dir)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{attempt}.{uuid.uuid4().hex}"
        digest = hashlib.sha256()
        try:
            with source.open("rb") as reading, partial.open("xb") as writing:
                while chunk := reading.read(_CHUNK):
                    digest.update(chunk)
                    writing.write(chunk)
                writing.flush()
                os.fsync(writing.fileno())
            target = self.path(digest.hexdigest())
            try:
                os.utime(target)  # somebody needs it from now on (``remove``)
            except FileNotFoundError:
                target.parent.mkdir(parents=True, exist_ok=True)
                partial.chmod(0o444)
                partial.replace(target)
                _sync_folder(target.parent)
        finally:
            partial.unlink(missing_ok=True)
        return digest.hexdigest()

    def left(self) -> list[tuple[Attempt, Path]]:
        """Return the files that are not complete, with the attempts that write or wrote them."""
        return _of_attempts(partial_folder(self._data_dir))

    def remove(self, sha256: str, *, unless_since: float) -> None:
        """Delete a file unless it was stored again since a time (seconds since the epoch), by whomever."""
        target = self.path(sha256)
        aside = partial_folder(self._data_dir) / uuid.uuid4().hex
        aside.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if target.stat().st_mtime >= unless_since:
                return
            # Out of the way first: who stores it at this moment then writes it anew, or has touched it already.
            target.replace(aside)
            if aside.stat().st_mtime >= unless_since:
                aside.replace(target)
            else:
                aside.unlink()

    def sweep(self, *, older_than_s: float) -> None:
        """Remove files of whomever who died long ago before they were complete."""
        before = time.time() - older_than_s
        for partial in partial_folder(self._data_dir).glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if partial.stat().st_mtime < before:
                    partial.unlink()


def _sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Scratch:
    """The folder ``scratch`` of the data folder: one folder an attempt, removed at its end."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / "scratch"

    def make(self, attempt: Attempt) -> Path:
        """Return a new empty folder for an attempt."""
        folder = self._root / str(attempt)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def left(self) -> list[tuple[Attempt, Path]]:
        """Return the folders that are there, with the attempts that use or used them."""
        return _of_attempts(self._root)
