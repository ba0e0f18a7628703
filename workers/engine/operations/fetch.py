"""``fetch``: downloads a listing's weights into its zoo's own cache. The only operation with a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.engine.operations.subjects import open_subject
from workers.engine.protocol import Result

if TYPE_CHECKING:
    from pathlib import Path

    from workers.engine.protocol import Progress


def run(request: dict[str, Any], scratch: Path, progress: Progress) -> Result:
    """Fetch ``{"subject"}``; returns the cached files' paths as ``{"files"}``."""
    del scratch
    zoo, listing = open_subject(request["subject"])
    progress(0, 1, f"fetching {listing.ref}")
    return Result({"files": [str(path) for path in zoo.fetch(listing)]})
