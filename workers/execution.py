"""How a model is run over a data set: runtime, device, batch and threads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_BATCHES = (4, 8, 16, 32)
_ELEMENTS = 2**19
"""Input elements of a batch on the CPU, where larger ones leave the caches and gain little or lose (docs/accuracy.md);
of small pictures more are needed to fill a call."""

_CUDA_BATCH = 64
_THREADS = 1
"""Jobs run beside each other, one a slot; the pictures are decoded on other threads."""


def execution(payload: dict[str, Any], input_shape: Sequence[int]) -> dict[str, Any]:
    """Return the fields of the engine's ``Execution`` for a job's payload and the shape of one batch of 1.

    The batch follows from the shape alone, not from the machine: an answer's last bits depend on it.
    """
    device = payload["device"]
    fitting = _ELEMENTS // max(1, math.prod(input_shape))
    batch = max((batch for batch in _BATCHES if batch <= fitting), default=_BATCHES[0])
    return {
        "runtime": payload["runtime"],
        "device": device,
        "batch": batch if device == "cpu" else _CUDA_BATCH,
        "threads": _THREADS,
    }
