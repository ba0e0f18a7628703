"""Where a data set's files may lie: in its own folder, as regular files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def folder(path: Path, what: str) -> Path:
    """Return the path of an existing folder; raises UsageError that says ``what`` belongs there."""
    if not path.is_dir():
        raise UsageError("folder-missing", f"{path} is not a folder; give the folder that holds {what}.")
    return path


def entries(root: Path, path: Path) -> list[os.DirEntry[str]]:
    """Return what lies in a folder of a data set, by name; hidden names are left out, links that lead out refused."""
    try:
        with os.scandir(path) as found:
            listed = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise UsageError("folder-unreadable", f"{path} cannot be read ({error.strerror}).") from error
    for entry in listed:
        if entry.is_symlink():
            check_inside(root, path / entry.name)
    return listed


def check_inside(root: Path, path: Path) -> None:
    """Raise UsageError when a path of a data set, links followed, is outside the data set's folder."""
    target = path.resolve()
    if not target.is_relative_to(root.resolve()):
        raise UsageError(
            "path-outside",
            f"{path} leads to {target}, outside the data set's folder {root}; put a copy there instead.",
        )


def file(root: Path, name: str, what: str) -> Path:
    """Return the path of a file that must lie in a data set's folder and hold something; ``what`` it is is told."""
    path = root / name
    check_inside(root, path)
    if not path.is_file():
        raise UsageError("file-missing", f"{path} is not there; it is {what}: restore it.")
    if path.stat().st_size == 0:
        raise UsageError("file-empty", f"{path} is empty; it is {what}: restore it.")
    return path


def check_size(path: Path, most_bytes: int) -> None:
    """Raise UsageError for a file that is too large to be what it is said to be, OSError for one that is not there."""
    size = path.stat().st_size
    if size > most_bytes:
        raise UsageError("file-size", f"{path} has {size:,} bytes; at most {most_bytes:,} can be right.")


def lines(path: Path, most_bytes: int) -> list[str]:
    """Return the lines of a small text file, without the blank ones at its end; raises UsageError."""
    try:
        check_size(path, most_bytes)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError("file-unreadable", f"{path} cannot be read ({reason}); restore it.") from error
    return [line.strip() for line in text.rstrip().splitlines()]
