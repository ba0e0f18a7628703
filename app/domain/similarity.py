"""How alike two architectures are, by the vectors that the engine gives them (signed bytes)."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Packed:
    """A vector as it is stored: one signed byte an element, and its Euclidean length."""

    elements: bytes
    length: float

    @classmethod
    def of(cls, vector: Sequence[int]) -> Packed:
        """Pack integers from -128 to 127; raises ValueError for others."""
        try:
            return cls(struct.pack(f"{len(vector)}b", *vector), math.hypot(*vector))
        except struct.error as error:
            raise ValueError(f"A vector's elements are from -128 to 127: {error}.") from error


def cosines(vector: Packed, others: Iterable[tuple[str, Packed]]) -> dict[str, float]:
    """Return the cosine of the angle between ``vector`` and each of the others of its size, by their names.

    1 is the same direction, 0 nothing in common. A vector of zeros has nothing in common with any.
    """
    unpack = struct.Struct(f"{len(vector.elements)}b").unpack
    own, square = unpack(vector.elements), vector.length**2
    found = {}
    for name, other in others:
        product = vector.length * other.length
        # By the law of cosines, because the distance is one call of the standard library: thousands in a request.
        apart = math.dist(own, unpack(other.elements)) ** 2
        found[name] = (square + other.length**2 - apart) / 2 / product if product else 0.0
    return found
