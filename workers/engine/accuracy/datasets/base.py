"""What every data set is: labelled pictures in a fixed order, read one at a time, with a digest of what was read."""

from __future__ import annotations

import hashlib
import itertools
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from workers.engine.accuracy import labels
from workers.engine.accuracy.datasets import pictures
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Picture = Image.Image | np.ndarray[Any, np.dtype[np.uint8]]
"""A decoded picture: PIL, or uint8 (height, width) or (height, width, channels)."""

MOST_ITEMS = 50_000_000
"""Items of the largest data set; ImageNet-21k has 14 million."""


@dataclass(frozen=True)
class Spec:
    """A data set as it was added: where it is, what its classes mean, and what its format needs besides."""

    name: str
    path: Path
    label_space: str | None = None
    classes: int | None = None
    options: dict[str, str] = field(default_factory=dict)


class Dataset(ABC):
    """Labelled pictures in a fixed order. Iterating decodes them one by one; nothing is kept.

    Attributes:
        name: what users call it.
        n: number of items, at least one.
        label_space: the space that the labels index, or None when nobody said.
        classes: number of classes of that space.
    """

    def __init__(self, name: str, n: int, label_space: str | None, classes: int, encoding: str) -> None:
        self.name, self.n, self.label_space, self.classes = name, n, label_space, classes
        self._encoding = encoding
        self._digest: str | None = None
        if n == 0:
            raise UsageError("dataset-empty", f"Dataset {name} has no items; add some.")
        labels.check_size(label_space, classes, what=f"Dataset {name}")

    def __len__(self) -> int:
        return self.n

    @abstractmethod
    def raw(self, start: int = 0) -> Iterator[tuple[bytes, int]]:
        """Yield the bytes as stored and the label of each item from ``start`` on, in the fixed order."""

    @abstractmethod
    def decode(self, index: int, raw: bytes) -> Picture:
        """Turn the bytes of item ``index`` into a picture; several threads may do so at once.

        Raises UsageError that names the item.
        """

    def __iter__(self) -> Iterator[tuple[Picture, int]]:
        """Yield (picture, label) in the fixed order. A full pass also computes the digest."""
        value = self._begin()
        for index, (raw, label) in enumerate(self.raw()):
            value.update(self.item_digest(raw, label))
            yield self.decode(index, raw), label
        self._digest = value.hexdigest()

    def digest(self) -> str:
        """SHA-256 over the items' own digests in order; after a full pass over the items it costs nothing."""
        if self._digest is None:
            value = self._begin()
            for raw, label in self.raw():
                value.update(self.item_digest(raw, label))
            self._digest = value.hexdigest()
        return self._digest

    @staticmethod
    def item_digest(raw: bytes, label: int) -> bytes:
        """SHA-256 of one item: its label and its bytes as stored."""
        value = hashlib.sha256(label.to_bytes(4, "little"))
        value.update(raw)
        return value.digest()

    def joined_digest(self, items: NDArray[np.uint8]) -> str:
        """Return ``digest()`` from the digests of all items, uint8 (n, 32), so that parts may be read apart."""
        value = self._begin()
        value.update(np.ascontiguousarray(items).data)
        return value.hexdigest()

    def _begin(self) -> hashlib._Hash:
        # Equal bytes are other pictures in another encoding: 2x8 pixels are not 4x4.
        return hashlib.sha256(self._encoding.encode() + b"\0")


class FileDataset(Dataset):
    """Encoded pictures, each in a file of its own."""

    def __init__(self, spec: Spec, label_space: str | None, classes: int, files: Sequence[tuple[Path, int]]) -> None:
        self._files = files
        super().__init__(spec.name, len(files), label_space, classes, pictures.ENCODED)

    def raw(self, start: int = 0) -> Iterator[tuple[bytes, int]]:
        """Yield the bytes and the label of each file from ``start`` on; those before are not read."""
        for path, label in itertools.islice(self._files, start, None):
            try:
                with path.open("rb") as file:
                    pictures.check_size(path.stat().st_size, str(path))
                    raw = file.read()
            except OSError as error:
                raise UsageError(
                    "picture-unreadable", f"{path} cannot be read ({error.strerror}); restore it or remove it."
                ) from error
            yield raw, label

    def decode(self, index: int, raw: bytes) -> Picture:
        """Decode one file's bytes."""
        return pictures.decode(raw, str(self._files[index][0]))


class RawDataset(Dataset):
    """Pictures of one shape, stored as their uint8 pixels."""

    def __init__(
        self, spec: Spec, label_space: str | None, classes: int, shape: tuple[int, ...], item_labels: NDArray[np.int32]
    ) -> None:
        self._shape, self._labels = shape, item_labels
        super().__init__(spec.name, len(item_labels), label_space, classes, pictures.raw_encoding(shape))

    def decode(self, index: int, raw: bytes) -> Picture:  # noqa: ARG002 - one shape for all
        """Return the pixels in their shape."""
        return np.frombuffer(raw, dtype=np.uint8).reshape(self._shape)


def checked_labels(
    values: NDArray[np.integer[Any]], classes: int | None, where: Callable[[int], str]
) -> tuple[NDArray[np.int32], int]:
    """Return labels as int32, and the number of classes: as given, or the highest label and one.

    Raises UsageError for the first label outside; its place is told by ``where(row)``.
    """
    count = classes or int(values.max(initial=-1)) + 1
    bad = (values < 0) | (values >= min(max(count, 1), 2**31))
    if bad.any():
        row = int(np.argmax(bad))
        raise UsageError(
            "label-range",
            f"{where(row)} is {values[row]}, outside 0 to {max(count, 1) - 1}; correct it, or state the right label "
            "space.",
        )
    return values.astype(np.int32), count
