"""What one model answered on every item of one dataset."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOP = 5
"""Ranked classes kept for every item; fewer when the model has fewer classes."""


LABELS_ONLY = "labels-"
"""How the digest of items begins that are known by their labels alone."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """The ranked answers of one model, in the dataset's order and in the dataset's class indices.

    Attributes:
        labels: int32 (n), the right class of each item.
        classes: int32 (n, k), the k best classes, best first; ties by class index. -1 is a class that the model knows
            and the dataset does not (the background of ``imagenet-1k-background``): never right.
        scores: float32 (n, k), the probabilities of ``classes``, descending.
        items_digest: SHA-256 of the items (bytes and labels, in order); only predictions of equal digests compare.
        dataset: name of the dataset.
        provenance: how they were made (runtime, batch, threads, contract, ...), as JSON.
        ids: integers or text (n), the items' names where the predictions were recorded with them.
        log_sum: float32 (n), log-sum-exp of the logits of a live run; 0 where the model answers with probabilities.
        log_right: float32 (n), natural logarithm of the right class's probability in a live run; -inf where it is 0.
    """

    labels: NDArray[np.int32]
    classes: NDArray[np.int32]
    scores: NDArray[np.float32]
    items_digest: str
    dataset: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    ids: NDArray[Any] | None = None
    log_sum: NDArray[np.float32] | None = None
    log_right: NDArray[np.float32] | None = None

    @property
    def labels_digest(self) -> str:
        """Digest of the labels in order: what items that were not read here are known by."""
        return labels_digest(self.labels)

    @property
    def top1(self) -> NDArray[np.int32]:
        """The best class of each item, int32 (n)."""
        return self.classes[:, 0]

    @property
    def k(self) -> int:
        """Ranked classes per item."""
        return int(self.classes.shape[1])

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def right(self, top: int) -> NDArray[np.bool_]:
        """Whether the right class is among the ``top`` best, bool (n)."""
        return np.asarray((self.classes[:, :top] == self.labels[:, None]).any(axis=1))

    def summary(self) -> dict[str, Any]:
        """Return the number of items and the fractions right; ``top5`` is None when fewer than five are ranked."""
        return {
            "items": len(self),
            "items_digest": self.items_digest,
            "top1": float(self.right(1).mean()),
            "top5": float(self.right(TOP).mean()) if self.k >= TOP else None,
        }

    def digest(self) -> str:
        """SHA-256 of the items' digest and of the arrays of numbers; the provenance is no part of it."""
        value = hashlib.sha256(f"{self.items_digest} {self.classes.shape}".encode())
        arrays = [(self.labels, "<i4"), (self.classes, "<i4"), (self.scores, "<f4")]
        arrays += [(array, "<f4") for array in (self.log_sum, self.log_right) if array is not None]
        for array, dtype in arrays:
            value.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
        return value.hexdigest()


def labels_digest(labels: NDArray[np.integer[Any]]) -> str:
    """Digest of items that are known by their labels alone; never equal to a digest of items' bytes."""
    return LABELS_ONLY + hashlib.sha256(np.ascontiguousarray(labels, dtype="<i4").tobytes()).hexdigest()


def rank(
    classes: NDArray[np.integer[Any]], scores: NDArray[np.floating[Any]], k: int = TOP
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Sort each row by score, descending, ties by class index, and keep the first ``k``.

    Args:
        classes: (n, m) class indices in any order.
        scores: (n, m) their finite scores.
        k: columns to keep.

    Returns:
        int32 classes and float32 scores, both (n, min(k, m)).
    """
    order = np.lexsort((classes, -scores), axis=-1)[:, :k]
    return (
        np.take_along_axis(classes, order, axis=1).astype(np.int32),
        np.take_along_axis(scores, order, axis=1).astype(np.float32),
    )
