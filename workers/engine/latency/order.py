"""The order in which the listings of a block take turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np


def williams(n: int) -> list[list[int]]:
    """Sequences of 0..n-1 in which each item stands equally often at each place and after each other item.

    n sequences when n is even, 2n (each also reversed) when it is odd; two items give AB, BA.
    Source: Williams, Australian Journal of Scientific Research A 2 (1949) 149-168.
    """
    zigzag = [0]
    low, high = 1, n - 1
    while len(zigzag) < n:
        zigzag.append(low)
        low += 1
        if len(zigzag) < n:
            zigzag.append(high)
            high -= 1
    rows = [[(item + shift) % n for item in zigzag] for shift in range(n)]
    return rows + [row[::-1] for row in rows] if n % 2 and n > 1 else rows


def rounds(n: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield rounds for ever; each holds every item once, and each cycle of rounds is one balanced design.

    Two items alternate A B, B A. With more, the rows of each cycle are shuffled, because a fixed row order would let
    one item follow itself, with its weights still in the cache, more often than another.
    """
    rows = williams(n)
    pair = 2
    while True:
        order = range(len(rows)) if n <= pair else rng.permutation(len(rows))
        for row in order:
            yield rows[row]
