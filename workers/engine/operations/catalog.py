"""``catalog``: what a zoo publishes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.protocol import Result
from workers.engine.zoos.registry import open_zoo

if TYPE_CHECKING:
    from workers.engine.protocol import Progress


def run(request: dict[str, Any], scratch: Path, progress: Progress) -> Result:
    """List a zoo: ``{"zoo", "folder"}`` to ``{"zoo", "version", "listings"}``."""
    del scratch
    progress(0, 1, f"listing {request['zoo']}")
    zoo = open_zoo(request["zoo"], Path(request["folder"]) if request.get("folder") else None)
    listings = [listing.to_json() for listing in zoo.listings()]
    return Result({"zoo": request["zoo"], "version": zoo.version(), "listings": listings})
