"""Where measured files lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def file_path(data_dir: Path, sha256: str) -> Path:
    """Return where the measured file of a digest lies in the data folder, whether or not it is there."""
    return data_dir / "files" / sha256[:2] / sha256
