"""What a container may use: the tightest limits over this process's control group and all above it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_LIMIT_BYTES = 2**60
"""Version 1 writes the largest number of pages for no limit."""


def limits(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> dict[str, Any]:
    """Return ``cpus`` (a fraction of cores), ``memory_bytes`` and ``cpuset``; None where nothing limits or nobody says.

    Reads versions 2 (kernel documentation, admin-guide/cgroup-v2) and 1 (admin-guide/cgroup-v1), also mixed.
    """
    quotas: list[float] = []
    memory: list[int] = []
    cpuset: str | None = None
    for controllers, path in _memberships(groups):
        for folder in _upwards(mounted, controllers, path):
            quotas += _quota(folder)
            memory += _bytes(folder)
            cpuset = cpuset or _read(folder / "cpuset.cpus.effective") or _read(folder / "cpuset.cpus")
    return {"cpus": min(quotas, default=None), "memory_bytes": min(memory, default=None), "cpuset": cpuset}


def _memberships(groups: Path) -> Iterator[tuple[str, str]]:
    """Yield controllers (empty for version 2) and path of each hierarchy."""
    for line in (_read(groups) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        yield controllers, path


def _upwards(mounted: Path, controllers: str, path: str) -> Iterator[Path]:
    """Yield a group's folder and those above it, as far as they are visible from here.

    In a container the path may be the host's: what is mounted is then the container's own group.
    """
    roots = [mounted / controllers, *(mounted / each for each in controllers.split(","))] if controllers else [mounted]
    root = next((each for each in roots if each.is_dir()), None)
    if root is None or controllers.startswith("name="):
        return
    folder = root / path.lstrip("/")
    while folder != root and root in folder.parents:
        yield folder
        folder = folder.parent
    yield root


def _quota(folder: Path) -> Iterator[float]:
    words = (_read(folder / "cpu.max") or "").split()
    if not words:
        words = [_read(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
    if all(word.isdigit() for word in words):  # "max", and -1 in version 1, mean no limit
        yield int(words[0]) / int(words[1])


def _bytes(folder: Path) -> Iterator[int]:
    word = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes") or ""
    if word.isdigit() and int(word) < _NO_LIMIT_BYTES:
        yield int(word)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None
