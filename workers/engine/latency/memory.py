"""Memory that one process has come to hold."""

from __future__ import annotations

import contextlib
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_KIB = 1024
_SLACK = 2**20
"""What may come and go between two readings."""


class Peak:
    """The growth of this process's peak resident memory from here on, pages of files it maps included.

    Source of the reset: proc(5), /proc/pid/clear_refs, value 5 (Linux 4.0).
    """

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            _CLEAR.write_text(_RESET_PEAK)
        self._before, peak = _field("VmRSS"), _field("VmHWM")
        # Where the peak cannot be reset, one reached before must not count as growth.
        self._known = peak is not None and self._before is not None and peak - self._before < _SLACK

    def growth(self) -> int | None:
        """Return the bytes by which the peak lies above where it was; None where the system does not say."""
        peak = _field("VmHWM")
        return peak - self._before if self._known and peak is not None and self._before is not None else None


def _field(name: str) -> int | None:
    """Return a size of /proc/self/status in bytes."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith(f"{name}:")), None)
    return None if found is None else int(found.split()[1]) * _KIB
