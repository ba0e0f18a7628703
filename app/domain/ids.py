"""Identifiers that sort by the time they were made, so that pages can follow them."""

from __future__ import annotations

import secrets
import threading
import time
import uuid

_lock = threading.Lock()
_last = (0, 0)


def new_id() -> uuid.UUID:
    """Return a UUID of version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 74 random bits.

    Within one process each is larger than the one before: in the same millisecond the random bits are counted up by
    a random step (section 6.2, method 2), so that rows made together keep their order.
    """
    global _last  # noqa: PLW0603 - the order is one of the whole process
    with _lock:
        milliseconds, bits = time.time_ns() // 1_000_000, secrets.randbits(73)
        if milliseconds <= _last[0]:
            milliseconds, bits = _last[0], _last[1] + 1 + secrets.randbits(32)
        _last = (milliseconds, bits)
    high, low = bits >> 62, bits & (2**62 - 1)
    return uuid.UUID(int=(milliseconds & (2**48 - 1)) << 80 | 0x7 << 76 | high << 64 | 0x2 << 62 | low)
