"""What a model answered on consecutive items, ranked but not yet judged as a whole: shards of it join exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workers.engine.accuracy.arrays import Archive
from workers.engine.accuracy.predictions import TOP, rank
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workers.engine.accuracy.feed import Batch
    from workers.engine.accuracy.labels import Mapping

_SUM_TOLERANCE = 1e-3
"""How far a row of probabilities may be from adding up to one; float16 models round that much."""

_ARRAYS = ("labels", "classes", "scores", "right", "log_sum", "digests", "shape")


@dataclass(frozen=True)
class Final:
    """Answers as probabilities.

    Attributes:
        scores: float32 (n, k), probabilities of the ranked classes.
        log_sum: float32 (n), log-sum-exp of the logits; 0 where the model itself answered with probabilities.
        right: float32 (n), natural logarithm of the right class's probability; -inf where that is 0.
        outputs: what the model's outputs were: ``probabilities`` or ``logits``.
    """

    scores: NDArray[np.float32]
    log_sum: NDArray[np.float32]
    right: NDArray[np.float32]
    outputs: str


class Answers:
    """The answers to the items [start, stop), in order; memory is allocated for what is ranked only.

    Attributes:
        start: index of the first item.
        done: items answered so far.
        columns: classes of the model's output, 0 before the first answer.
        labels: int32 (n).
        classes: int32 (n, k), best first, in the data set's indices.
        scores: float32 (n, k), the model's own outputs for ``classes``.
        right: float32 (n), its output for the right class; NaN where that is none of its classes.
        log_sum: float64 (n), log-sum-exp of all its outputs.
        digests: uint8 (n, 32), the items' own digests.
        probabilities: whether every row so far looks like probabilities.
    """

    def __init__(self, start: int, stop: int) -> None:
        n = stop - start
        self.start, self.done, self.columns, self.probabilities = start, 0, 0, True
        self.labels = np.zeros(n, dtype=np.int32)
        self.classes = np.zeros((n, 0), dtype=np.int32)
        self.scores = np.zeros((n, 0), dtype=np.float32)
        self.right = np.zeros(n, dtype=np.float32)
        self.log_sum = np.zeros(n, dtype=np.float64)
        self.digests = np.zeros((n, 32), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def add(self, scores: NDArray[np.float32], mapping: Mapping, batch: Batch) -> None:
        """Rank the outputs for the next batch, (m, classes); ``mapping`` says which of the data set's they are."""
        m = len(scores)
        classes, merged = mapping.merge(scores)
        if self.done == 0:
            self.columns, k = scores.shape[1], min(TOP, len(classes))
            self.classes = np.zeros((len(self), k), dtype=np.int32)
            self.scores = np.zeros((len(self), k), dtype=np.float32)
        rows = slice(self.done, self.done + m)
        places, self.scores[rows] = best(merged, self.classes.shape[1])
        self.classes[rows] = classes[places]
        self.labels[rows], self.digests[rows] = batch.labels, batch.digests
        self.right[rows] = _of_label(merged, _columns_of(batch.labels, classes))
        self.probabilities = self.probabilities and _are_probabilities(scores)
        self.log_sum[rows] = _log_sum(scores)
        self.done += m

    def finish(self) -> Final:
        """Return the probabilities: of a model whose every row is some already, the scores as they are."""
        if self.probabilities:
            with np.errstate(divide="ignore"):
                right = np.log(self.right)
            return Final(self.scores, np.zeros(len(self), dtype=np.float32), _known(right), "probabilities")
        scores = np.exp(self.scores - self.log_sum[:, None]).astype(np.float32)
        right = (self.right - self.log_sum).astype(np.float32)
        return Final(scores, self.log_sum.astype(np.float32), _known(right), "logits")

    def write(self, path: Path) -> None:
        """Write a shard as ``.npz``."""
        shape = np.array([self.start, self.done, self.columns, self.probabilities], dtype=np.int64)
        arrays = {name: getattr(self, name) for name in _ARRAYS if name != "shape"}
        np.savez_compressed(path, allow_pickle=False, shape=shape, **arrays)

    @classmethod
    def read(cls, path: Path) -> Answers:
        """Read a shard that ``write`` left; raises UsageError for anything else."""
        archive = Archive(path)
        archive.require(*_ARRAYS)
        start, done, columns, probabilities = (int(each) for each in archive.read_integers("shape", 1))
        found = cls(start, start + done)
        for name in _ARRAYS[:-1]:
            setattr(found, name, archive.read(name))
        found.done, found.columns, found.probabilities = done, columns, bool(probabilities)
        return found


def join(parts: Sequence[Answers], items: int) -> Answers:
    """Return the answers to items 0 to ``items`` from those of shards, in any order; exactly what one run gives.

    Raises UsageError when an item is missing or there twice, or when the shards' models differ in their classes.
    """
    parts = sorted(parts, key=lambda part: part.start)
    at = 0
    for part in parts:
        if part.start != at or part.done != len(part):
            raise UsageError(
                "shards-gap",
                f"The shards leave off at item {at} and go on at {part.start}; ask for the predictions again.",
            )
        if part.columns != parts[0].columns:
            raise UsageError(
                "shards-classes",
                f"The model answers items from {part.start} with {part.columns} classes and the first ones with "
                f"{parts[0].columns}: it changed in between; ask for the predictions again.",
            )
        at += part.done
    if at != items:
        raise UsageError(
            "shards-gap", f"The shards hold {at} of the data set's {items} items; ask for the predictions again."
        )
    whole = Answers(0, 0)
    whole.done, whole.columns = items, parts[0].columns
    whole.probabilities = all(part.probabilities for part in parts)
    for name in _ARRAYS[:-1]:
        setattr(whole, name, np.concatenate([getattr(part, name) for part in parts]))
    return whole


def _are_probabilities(scores: NDArray[np.float32]) -> bool:
    if scores.min() < 0 or scores.max() > 1 + _SUM_TOLERANCE:
        return False
    return bool((abs(scores.sum(axis=1, dtype=np.float64) - 1) <= _SUM_TOLERANCE).all())


def _log_sum(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-sum-exp of each row, in double precision; scipy's costs a batch more than all the rest of its ranking."""
    top = scores.max(axis=1).astype(np.float64)
    total: NDArray[np.float64] = np.exp(scores - top[:, None]).sum(axis=1)
    return top + np.log(total)


def _columns_of(labels: NDArray[np.int32], classes: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return the column of each label among ``classes``, -1 where it is none of them."""
    order = np.argsort(classes)
    places = np.minimum(np.searchsorted(classes, labels, sorter=order), len(classes) - 1)
    columns = order[places]
    return np.where(classes[columns] == labels, columns, -1)


def _of_label(scores: NDArray[np.float32], columns: NDArray[np.intp]) -> NDArray[np.float32]:
    known = (columns >= 0) & (columns < scores.shape[1])
    found = np.take_along_axis(scores, np.where(known, columns, 0)[:, None], axis=1)[:, 0]
    return np.where(known, found, np.float32(np.nan))


def _known(right: NDArray[np.float32]) -> NDArray[np.float32]:
    """A class that the model does not know has no probability."""
    return np.where(np.isnan(right), np.float32(-np.inf), right)


def best(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the k best classes of each row, int32 (m, k), and their scores, float32 (m, k); ties by class index."""
    m, count = scores.shape
    least = np.partition(scores, count - k, axis=1)[:, count - k, None]
    # A few columns hold the best of every row, ties for the last place included: only they need to be sorted.
    columns = np.flatnonzero((scores >= least).any(axis=0)).astype(np.int32)
    return rank(np.broadcast_to(columns, (m, columns.size)), scores[:, columns], k)
