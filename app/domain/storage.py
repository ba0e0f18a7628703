"""Where measured and uploaded files lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def file_path(data_dir: Path, sha256: str) -> Path:
    """Return where the measured file of a digest lies in the data folder, whether or not it is there."""
    return data_dir / "files" / sha256[:2] / sha256


def upload_path(data_dir: Path, sha256: str) -> Path:
    """Return where the uploaded file of a digest lies in the data folder; measured files have no place there."""
    return data_dir / "uploads" / sha256[:2] / sha256


def partial_folder(data_dir: Path) -> Path:
    """Return the folder of files that are still being written, measured and uploaded ones; the reaper sweeps it."""
    return data_dir / "files" / "partial"
