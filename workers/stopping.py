"""Telling a worker to end: it claims nothing more at once, and hands back in time what has not ended by itself."""

from __future__ import annotations

import mmap
import struct
import threading
import time

MARGIN_S = 3.0
"""Time beyond a stop's own within which a worker has ended its engines, queued its jobs again and left."""

_TIME = struct.Struct("d")


class Stop:
    """Whether and when a worker has to end. Processes forked after it was made share it.

    ``of_parent`` is that of the process that forked this one, which stops this one too.
    """

    def __init__(self, of_parent: Stop | None = None) -> None:
        self._parent = of_parent
        # Shared memory and not a lock: whoever holds one when it is killed would stop the others for ever.
        self._deadline = mmap.mmap(-1, _TIME.size)
        self._asked = threading.Event()

    def ask(self, within_s: float) -> None:
        """Have jobs at hand end by themselves in this time, else be handed back. The earliest time asked for holds."""
        deadline = time.monotonic() + within_s
        before = self._at()
        if before is None or deadline < before:
            _TIME.pack_into(self._deadline, 0, deadline)
        self._asked.set()

    def asked(self) -> bool:
        """Whether nothing more may be claimed."""
        return self._at() is not None or (self._parent is not None and self._parent.asked())

    def due(self) -> bool:
        """Whether what still runs has to be handed back."""
        at = self._at()
        return (at is not None and time.monotonic() >= at) or (self._parent is not None and self._parent.due())

    def wait(self, seconds: float) -> None:
        """Wait so long, or until this process is asked to end."""
        self._asked.wait(seconds)

    def _at(self) -> float | None:
        # CLOCK_MONOTONIC is one clock for all processes of a machine.
        (deadline,) = _TIME.unpack_from(self._deadline)
        return deadline or None
