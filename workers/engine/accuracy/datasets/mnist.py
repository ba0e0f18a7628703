"""``mnist``: the IDX files of MNIST and of what was made after its model, plain or packed by gzip.

Format: http://yann.lecun.com/exdb/mnist/, "File formats": two zero bytes, the type (8: uint8), the number of axes, the
length of each as big-endian 32-bit integers, then the values.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from typing import IO, TYPE_CHECKING, cast

import numpy as np

from workers.engine.accuracy import labels
from workers.engine.accuracy.datasets import pictures, places
from workers.engine.accuracy.datasets.base import MOST_ITEMS, RawDataset, Spec, checked_labels
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PREFIXES = {"test": "t10k", "train": "train"}
_UINT8 = 8
_BROKEN = (EOFError, OSError, zlib.error)


class MnistDataset(RawDataset):
    """Pictures and labels of one split, ``test`` (``t10k-...``) unless ``train`` is asked for.

    The format says nothing about the classes (Fashion-MNIST has it too), so the label space must be stated to be known.
    """

    def __init__(self, spec: Spec) -> None:
        root = places.folder(spec.path, "the IDX files")
        prefix = _PREFIXES[spec.options.get("split", "test")]
        self._path = _find(root, f"{prefix}-images", "idx3")
        label_path = _find(root, f"{prefix}-labels", "idx1")
        with _open(self._path) as file:
            self._n, *shape = _header(self._path, file, axes=3)
        with _open(label_path) as file:
            (count,) = _header(label_path, file, axes=1)
            if count != self._n:
                raise UsageError(
                    "items-differ",
                    f"{self._path} has {self._n} pictures and {label_path} {count} labels; they are of different sets.",
                )
            values = np.frombuffer(_read(label_path, file, count, 0), dtype=np.uint8).astype(np.int32)
            _check_end(label_path, file, count)
        found, classes = checked_labels(
            values, spec.classes or labels.size(spec.label_space), lambda row: f"{label_path}: label {row}"
        )
        self._check_size(shape[0] * shape[1])
        super().__init__(spec, spec.label_space, classes, tuple(shape), found)

    def _check_size(self, picture: int) -> None:
        """Refuse a plain file of another size than its header promises; a packed one shows it when it is read."""
        size, expected = self._path.stat().st_size, 16 + self._n * picture
        if self._path.suffix != ".gz" and size != expected:
            raise UsageError(
                "file-truncated",
                f"{self._path} has {size:,} bytes, but its header promises {expected:,}; copy it anew.",
            )

    def raw(self, start: int = 0) -> Iterator[tuple[bytes, int]]:
        """Yield the pixels and the label of each picture from ``start`` on."""
        size = self._shape[0] * self._shape[1]
        with _open(self._path) as file:
            _header(self._path, file, axes=3)
            for number in range(start if self._path.suffix == ".gz" else 0):
                _read(self._path, file, size, number)
            if self._path.suffix != ".gz":
                file.seek(start * size, 1)
            for number, label in enumerate(self._labels[start:], start=start):
                yield _read(self._path, file, size, number), int(label)
            _check_end(self._path, file, self._n)


def _find(root: Path, stem: str, kind: str) -> Path:
    """Return the file of a part: ``t10k-images-idx3-ubyte``, also spelt with a dot, or packed as ``.gz``."""
    names = [f"{stem}{mark}{kind}-ubyte{packed}" for packed in ("", ".gz") for mark in "-."]
    name = next((name for name in names if (root / name).exists()), names[0])
    return places.file(root, name, f"{stem.rpartition('-')[2]} as IDX, plain or .gz")


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _header(path: Path, file: IO[bytes], axes: int) -> tuple[int, ...]:
    """Read the lengths of the axes; refuses another type, number of axes, or lengths that cannot be right."""
    start = _read(path, file, 4 + 4 * axes, None)
    zeros, kind, found = struct.unpack(">HBB", start[:4])
    if (zeros, kind, found) != (0, _UINT8, axes):
        raise UsageError(
            "idx-header",
            f"{path} begins with {start[:4].hex()}, but IDX with {axes} axes of bytes with 0000080{axes}; it is "
            "another file.",
        )
    lengths = struct.unpack(f">{axes}I", start[4:])
    if 0 in lengths:
        raise UsageError("dataset-empty", f"{path} has the shape {lengths}: nothing is in it; give the whole file.")
    if lengths[0] > MOST_ITEMS or math.prod(lengths[1:]) > pictures.MOST_BYTES:
        raise UsageError(
            "array-size",
            f"{path} has the shape {lengths}; at most {MOST_ITEMS:,} pictures of {pictures.MOST_BYTES:,} bytes can be "
            "read.",
        )
    return lengths


def _read(path: Path, file: IO[bytes], size: int, item: int | None) -> bytes:
    where = "the header" if item is None else f"item {item}"
    try:
        raw = file.read(size)
    except _BROKEN as error:
        raise UsageError("file-broken", f"{path} cannot be unpacked at {where} ({error}); copy it anew.") from error
    if len(raw) < size:
        raise UsageError("file-truncated", f"{path} ends within {where}; copy it anew.")
    return raw


def _check_end(path: Path, file: IO[bytes], items: int) -> None:
    try:
        rest = file.read(1)
    except _BROKEN as error:
        raise UsageError("file-broken", f"{path} is damaged at its end ({error}); copy it anew.") from error
    if rest:
        raise UsageError("file-size", f"{path} goes on after its {items} items; copy it anew.")
