"""``cifar-10`` and ``cifar-100``: Krizhevsky's binary version, labels and 32x32 pictures in records of fixed length.

Format: https://www.cs.toronto.edu/~kriz/cifar.html, section "Binary version". A record is one label byte (CIFAR-100:
coarse, then fine) and 3,072 bytes of pixels, a plane each of red, green and blue, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.engine.accuracy import labels
from workers.engine.accuracy.datasets import places
from workers.engine.accuracy.datasets.base import RawDataset, Spec, checked_labels
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_MOST_BYTES = 1024**2
_RECORDS = 1024


@dataclass(frozen=True)
class _Layout:
    """How one of the two sets is laid out: the label byte of a record, and the file of its classes' names."""

    split_files: Mapping[str, tuple[str, ...]]
    label_bytes: int
    label_at: int
    names: str


_CIFAR_10 = _Layout(
    {"test": ("test_batch.bin",), "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6))},
    label_bytes=1,
    label_at=0,
    names="batches.meta.txt",
)
_CIFAR_100_SPLITS = {"test": ("test.bin",), "train": ("train.bin",)}
_CIFAR_100 = {
    "fine": _Layout(_CIFAR_100_SPLITS, label_bytes=2, label_at=1, names="fine_label_names.txt"),
    "coarse": _Layout(_CIFAR_100_SPLITS, label_bytes=2, label_at=0, names="coarse_label_names.txt"),
}


class CifarDataset(RawDataset):
    """The records of one split, ``test`` unless ``train`` is asked for, in the order of the files.

    The label space is that of the names beside the records, where these are CIFAR's own. Then the coarse label of each
    record must also be the superclass of its fine one.
    """

    def __init__(self, spec: Spec, layout: _Layout) -> None:
        root = places.folder(spec.path, f"{layout.names} and the .bin files")
        names = places.lines(places.file(root, layout.names, "the names of the classes"), _MOST_BYTES)
        self._label_bytes = layout.label_bytes
        self._files: list[tuple[Path, int]] = []
        found: list[NDArray[np.int32]] = []
        space = spec.label_space or labels.space_of(names)
        for name in layout.split_files[spec.options.get("split", "test")]:
            path = places.file(root, name, "a file of records")
            head = self._heads(path)
            self._files.append((path, len(head)))
            found.append(_checked(path, head, layout, len(names)))
            if layout.label_bytes > 1 and labels.space_of(names) == space:
                _check_superclasses(path, head)
        super().__init__(spec, space, len(names), (_SIDE, _SIDE, 3), np.concatenate(found))

    def _heads(self, path: Path) -> NDArray[np.uint8]:
        """Return the label bytes of all records, (records, label bytes)."""
        record = self._label_bytes + _PIXELS
        size = path.stat().st_size
        if size % record:
            raise UsageError(
                "record-truncated",
                f"{path}: record {size // record} is cut off after {size % record} of {record} bytes; copy the file "
                "anew.",
            )
        with path.open("rb") as file:
            parts = iter(lambda: file.read(_RECORDS * record), b"")
            heads = [np.frombuffer(part, np.uint8).reshape(-1, record)[:, : self._label_bytes].copy() for part in parts]
        return np.concatenate(heads)

    def raw(self, start: int = 0) -> Iterator[tuple[bytes, int]]:
        """Yield the pixels (32 x 32 x 3) and the label of each record from ``start`` on; those before are not read."""
        answers = iter(self._labels[start:])
        for path, records in self._files:
            skipped = min(start, records)
            start -= skipped
            with path.open("rb") as file:
                file.seek(skipped * (self._label_bytes + _PIXELS))
                for number in range(skipped, records):
                    raw = file.read(self._label_bytes + _PIXELS)[self._label_bytes :]
                    if len(raw) < _PIXELS:
                        raise UsageError("record-truncated", f"{path}: record {number} is gone; restore the file.")
                    planes = np.frombuffer(raw, dtype=np.uint8).reshape(3, _SIDE, _SIDE)
                    yield planes.transpose(1, 2, 0).tobytes(), int(next(answers))


def cifar_10(spec: Spec) -> CifarDataset:
    """Open the folder ``cifar-10-batches-bin``."""
    return CifarDataset(spec, _CIFAR_10)


def cifar_100(spec: Spec) -> CifarDataset:
    """Open the folder ``cifar-100-binary``, by its fine labels unless the coarse ones are asked for."""
    return CifarDataset(spec, _CIFAR_100[spec.options.get("labels", "fine")])


def _checked(path: Path, head: NDArray[np.uint8], layout: _Layout, classes: int) -> NDArray[np.int32]:
    found, _ = checked_labels(
        head[:, layout.label_at].astype(np.int32), classes, lambda row: f"{path}: the label of record {row}"
    )
    return found


def _check_superclasses(path: Path, head: NDArray[np.uint8]) -> None:
    above: Any = labels.superclasses("cifar-100")
    coarse, fine = head[:, 0], head[:, 1]
    wrong = (fine >= len(above[1])) | (above[1][np.minimum(fine, len(above[1]) - 1)] != coarse)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UsageError(
            "label-superclass",
            f"{path}: record {row} has the fine label {fine[row]} and the coarse label {coarse[row]}, which is not its "
            "superclass; copy the file anew.",
        )
