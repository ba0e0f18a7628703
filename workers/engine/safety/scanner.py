"""What a scanner says of a pickle: evidence beside the verdict, never permission."""

from __future__ import annotations

import contextlib
import zipfile
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_MAX_PICKLE = 8 * 2**20
_MAX_SAID = 5
_LENGTH = 300


def scan(path: Path) -> dict[str, Any] | None:
    """Return what fickling says of the pickles in a file: ``{scanner, severity, found}``; None when it says nothing.

    It reads a pickle's instructions without running them. Its own failure is no verdict.
    """
    try:
        from fickling.analysis import check_safety  # type: ignore[import-untyped,unused-ignore]
        from fickling.fickle import StackedPickle  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return None
    worst, said = None, []
    # Whatever it trips over in a hostile file is no verdict.
    with contextlib.suppress(Exception):
        for content in _pickles(path):
            for pickle in StackedPickle.load(content):
                result = check_safety(pickle)
                worst = result.severity if worst is None else max(worst, result.severity)
                said += [line[:_LENGTH] for line in str(result).splitlines() if line.strip()]
    if worst is None:
        return None
    scanner = f"fickling {metadata.version('fickling')}"
    return {"scanner": scanner, "severity": worst.name.lower(), "found": list(dict.fromkeys(said))[:_MAX_SAID]}


def _pickles(path: Path) -> list[bytes]:
    """Return the pickles in a file: those of an archive by their names, else its beginning."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return [file.read(_MAX_PICKLE)]
    with zipfile.ZipFile(path) as archive:
        named = [info for info in archive.infolist() if info.filename.endswith((".pkl", ".pickle"))]
        return [archive.open(info).read(_MAX_PICKLE) for info in named[:_MAX_SAID]]
