"""Pictures on their way to the model: read in order, decoded and preprocessed beside it, a bounded number at a time."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workers.engine.contracts.apply import apply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from workers.engine.accuracy.datasets import Dataset
    from workers.engine.contracts.contract import Contract

_MOST_THREADS = 8


@dataclass(frozen=True)
class Batch:
    """Consecutive items, ready for the model.

    Attributes:
        first: index of the first item in the data set.
        pictures: float32 (m, ...), as the contract makes them.
        labels: int32 (m).
        digests: uint8 (m, 32), the items' own digests (``Dataset.item_digest``).
    """

    first: int
    pictures: NDArray[np.float32]
    labels: NDArray[np.int32]
    digests: NDArray[np.uint8]


def batches(dataset: Dataset, contract: Contract, size: int, *, start: int, stop: int) -> Iterator[Batch]:
    """Yield the items [start, stop) in order, ``size`` at a time.

    Decoding and preprocessing run on threads beside the caller: PIL and numpy release the interpreter's lock there. At
    most two batches a thread are under way, whatever the number of items. What fails raises here, in order.
    """
    threads = decoders()
    items = itertools.islice(dataset.raw(start), stop - start)
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for first in range(start, stop, size):
                chunk = list(itertools.islice(items, size))
                waiting.append(pool.submit(_batch, dataset, contract, first, chunk))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def decoders() -> int:
    """Return the number of threads that decode: the cores that this process may use, at most ``_MOST_THREADS``."""
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)))


def _batch(dataset: Dataset, contract: Contract, first: int, chunk: list[tuple[bytes, int]]) -> Batch:
    pictures = [apply(contract, dataset.decode(first + n, raw)) for n, (raw, _) in enumerate(chunk)]
    digests = b"".join(dataset.item_digest(raw, label) for raw, label in chunk)
    return Batch(
        first,
        np.stack(pictures),
        np.array([label for _, label in chunk], dtype=np.int32),
        np.frombuffer(digests, dtype=np.uint8).reshape(len(chunk), hashlib.sha256().digest_size),
    )
