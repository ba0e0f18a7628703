"""What the kernel allows one measuring process to use."""

from __future__ import annotations

import math
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LAST_SECONDS = 5
"""Between SIGXCPU, which names its reason, and SIGKILL, which cannot be ignored."""


@dataclass(frozen=True)
class Limits:
    """Limits of each process; None is no limit.

    ``memory_bytes`` of private memory that it asks for from here on, used or not; ``cpu_s`` of processor time;
    ``file_bytes`` of one file; ``processes`` and threads of the measurement together.
    """

    memory_bytes: int | None = None
    cpu_s: float | None = None
    file_bytes: int | None = None
    processes: int | None = None

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Limits:
        """Read a request's ``limits``."""
        return cls(**value)


def apply(limits: Limits, *, counted: bool) -> None:
    """Limit this process and all that it starts, for ever.

    ``counted`` says that the kernel counts this measurement's processes by themselves, in a user namespace of their
    own; elsewhere it would count all of the user's, whatever else they run.
    """
    no_core_dumps()
    _limit(resource.RLIMIT_DATA, None if limits.memory_bytes is None else _private_bytes() + limits.memory_bytes)
    _limit(resource.RLIMIT_CPU, None if limits.cpu_s is None else math.ceil(limits.cpu_s), more=_LAST_SECONDS)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    _limit(resource.RLIMIT_NPROC, limits.processes if counted else None)


def no_core_dumps() -> None:
    """Write no core dumps: a crashing model would leave its whole memory on the disk."""
    _limit(resource.RLIMIT_CORE, 0)


def _private_bytes() -> int:
    """Return the private memory that this process has, imported frameworks in the main."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    return pages * resource.getpagesize()


def _limit(kind: int, value: int | None, *, more: int = 0) -> None:
    if value is not None:
        _, most = resource.getrlimit(kind)
        soft, hard = (each if most == resource.RLIM_INFINITY else min(each, most) for each in (value, value + more))
        resource.setrlimit(kind, (soft, hard))
