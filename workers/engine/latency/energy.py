"""Energy that the processor's packages report (RAPL), through the kernel's powercap interface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
"""A zone a package: ``intel-rapl:0``, also on AMD; what lies below (``intel-rapl:0:0``) is part of it.

Source: the kernel's documentation, power/powercap. Readable to root only on most machines.
"""


@dataclass(frozen=True)
class _Package:
    counter: Path
    wraps_at: int


class Meter:
    """Reads the energy counters of all packages."""

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._packages = [found for zone in sorted(powercap.glob("*-rapl:*")) if (found := _package(zone)) is not None]

    @property
    def works(self) -> bool:
        """Whether any package tells its energy to this process."""
        return bool(self._packages)

    def read(self) -> list[int]:
        """Return each package's counter, in microjoules."""
        return [int(package.counter.read_text()) for package in self._packages]

    def joules(self, before: list[int], after: list[int]) -> float:
        """Return the energy between two readings, over all packages; each counter may have wrapped once."""
        spent = 0
        for package, start, end in zip(self._packages, before, after, strict=True):
            spent += end - start if end >= start else end - start + package.wraps_at
        return spent / 1e6


def _package(zone: Path) -> _Package | None:
    """Return the package behind a zone; None for parts of one, for the whole board, and for what may not be read."""
    try:
        if zone.name.count(":") != 1 or not (zone / "name").read_text().startswith("package"):
            return None
        int((zone / "energy_uj").read_text())
        return _Package(zone / "energy_uj", int((zone / "max_energy_range_uj").read_text()))
    except (OSError, ValueError):
        return None
