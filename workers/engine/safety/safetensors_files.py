"""What a safetensors file may say of itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from workers.engine.protocol import UnsafeError
from workers.engine.safety.formats import safetensors_header

if TYPE_CHECKING:
    from pathlib import Path

_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16}
_BITS |= {"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64}
_BITS |= {"U64": 64}
"""Bits of an element."""


def check_safetensors(path: Path, head: bytes, size: int) -> None:
    """Raise UnsafeError for a header whose tensors do not fill the data exactly, one after the other."""
    header = safetensors_header(path, head, size) or {}
    there = size - 8 - int.from_bytes(head[:8], "little")
    tensors = [value for name, value in header.items() if name != "__metadata__"]
    if not _fill(tensors, there):
        raise UnsafeError(
            "false-sizes",
            f"{path} is not loaded: its header's shapes and offsets do not describe the {there} bytes behind it; write "
            "it again with safetensors.",
        )


def _fill(tensors: list[Any], there: int) -> bool:
    try:
        spans = sorted(tuple(tensor["data_offsets"]) for tensor in tensors)
        declared = [(_BITS[tensor["dtype"]] * math.prod(tensor["shape"]), tensor["data_offsets"]) for tensor in tensors]
        fits = all(bits == 8 * (end - start) for bits, (start, end) in declared)
        positive = all(side >= 0 for tensor in tensors for side in tensor["shape"])
        starts, ends = [0, *(end for _, end in spans)], [*(start for start, _ in spans), there]
    except (KeyError, TypeError, ValueError):
        return False
    return fits and positive and starts == ends
