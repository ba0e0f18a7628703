"""What every data set is: labelled pictures in a fixed order, read one at a time, with a digest of what was read."""

from __future__ import annotations

import hashlib
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
    def _raw(self) -> Iterator[tuple[bytes, int]]:
        """Yield each item's bytes as stored, with its label."""

    @abstractmethod
    def _decode(self, index: int, raw: bytes) -> Picture:
        """Turn an item's bytes into a picture; raises UsageError that names the item."""

    def __iter__(self) -> Iterator[tuple[Picture, int]]:
        """Yield (picture, label) in the fixed order. A full pass also computes the digest."""
        value = self._begin()
        for index, (raw, label) in enumerate(self._raw()):
            self._add(value, raw, label)
            yield self._decode(index, raw), label
        self._digest = value.hexdigest()

    def digest(self) -> str:
        """SHA-256 over the items' bytes and labels in order; after a full pass over the items it costs nothing."""
        if self._digest is None:
            value = self._begin()
            for raw, label in self._raw():
                self._add(value, raw, label)
            self._digest = value.hexdigest()
        return self._digest

    def _begin(self) -> hashlib._Hash:
        # Equal bytes are other pictures in another encoding: 2x8 pixels are not 4x4.
        return hashlib.sha256(self._encoding.encode() + b"\0")

    @staticmethod
    def _add(value: hashlib._Hash, raw: bytes, label: int) -> None:
        # Length and label frame each item, so that no two different sequences hash alike.
        value.update(len(raw).to_bytes(8, "little") + label.to_bytes(4, "little"))
        value.update(raw)


class FileDataset(Dataset):
    """Encoded pictures, each in a file of its own."""

    def __init__(self, spec: Spec, label_space: str | None, classes: int, files: Sequence[tuple[Path, int]]) -> None:
        self._files = files
        super().__init__(spec.name, len(files), label_space, classes, pictures.ENCODED)

    def _raw(self) -> Iterator[tuple[bytes, int]]:
        for path, label in self._files:
            try:
                with path.open("rb") as file:
                    pictures.check_size(path.stat().st_size, str(path))
                    raw = file.read()
            except OSError as error:
                raise UsageError(
                    "picture-unreadable", f"{path} cannot be read ({error.strerror}); restore it or remove it."
                ) from error
            yield raw, label

    def _decode(self, index: int, raw: bytes) -> Picture:
        return pictures.decode(raw, str(self._files[index][0]))


class RawDataset(Dataset):
    """Pictures of one shape, stored as their uint8 pixels."""

    def __init__(
        self, spec: Spec, label_space: str | None, classes: int, shape: tuple[int, ...], item_labels: NDArray[np.int32]
    ) -> None:
        self._shape, self._labels = shape, item_labels
        super().__init__(spec.name, len(item_labels), label_space, classes, pictures.raw_encoding(shape))

    def _decode(self, index: int, raw: bytes) -> Picture:  # noqa: ARG002 - one shape for all
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
