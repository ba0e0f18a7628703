"""Files that were made to do harm: by which route each reaches a worker, and what it would do there.

A payload leaves a file and ends its process with status ``PAYLOAD``: the file tells where nothing confines it, the
status where everything does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAYLOAD = 86
"""Exit status of a process in which a payload has run."""

Route = Literal["file", "run", "torchvision", "keras", "code"]
"""``file``: ``file:PATH``; ``run``: the same, and run over a data set; ``torchvision``: weights in its cache;
``keras``: weights of a team's zoo; ``code``: the team's own builder, which runs by the operator's choice."""


@dataclass(frozen=True)
class Case:
    """A hostile file. ``make(path, canary)`` writes it; ``codes`` are those that it may be refused with.

    ``slow`` ones end by a limit and take seconds.
    """

    name: str
    make: Callable[[Path, Path], Any]
    codes: frozenset[str]
    route: Route = "file"
    slow: bool = False


def payload(canary: Path) -> str:
    """Return the payload as one Python statement for ``exec``: it leaves its mark and ends the process."""
    return f"import os\ntry:\n    open({str(canary)!r}, 'w').close()\nexcept OSError:\n    pass\nos._exit({PAYLOAD})\n"
