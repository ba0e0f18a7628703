"""The built-in dataset: scikit-learn's handwritten digits, and the rule that splits them.

1,797 real pictures, 8x8, grey levels 0-16, from the test part of the UCI "Optical Recognition of Handwritten Digits"
set. They come with scikit-learn, so accuracy is measured on real data everywhere, without a download.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABEL_SPACE = "digits"
CLASSES = 10
SPLIT_SEED = 20220
"""Seed of the split; changing it changes every digest and every recorded accuracy."""

TEST_SHARE = 0.5
"""Half of each class is held out: paired statistics need items more than these small networks need pictures."""

_LEVELS = 16


def pictures() -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return all pictures, uint8 (1797, 8, 8) with grey levels 0-255, and their labels, int32 (1797)."""
    from sklearn.datasets import load_digits  # here, because scikit-learn takes half a second

    bunch = load_digits()
    images = np.rint(bunch.images * 255 / _LEVELS).astype(np.uint8)
    return images, bunch.target.astype(np.int32)


def part(name: Literal["train", "test"]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return the pictures and labels that training sees, or those it never sees, each in the order of the whole set.

    The rule: in each class the indices are shuffled by numpy's legacy generator (whose stream is frozen), seeded with
    ``SPLIT_SEED``; the first ``TEST_SHARE`` of them, rounded down, are held out.
    """
    images, labels = pictures()
    shuffler = np.random.RandomState(SPLIT_SEED)
    held_out = np.zeros(len(labels), dtype=bool)
    for digit in range(CLASSES):
        indices = shuffler.permutation(np.flatnonzero(labels == digit))
        held_out[indices[: int(len(indices) * TEST_SHARE)]] = True
    chosen = held_out if name == "test" else ~held_out
    return images[chosen], labels[chosen]
