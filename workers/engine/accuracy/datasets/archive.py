"""``npz``: numpy's archive of two arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workers.engine.accuracy import labels
from workers.engine.accuracy.arrays import Archive
from workers.engine.accuracy.datasets import pictures
from workers.engine.accuracy.datasets.base import MOST_ITEMS, Picture, RawDataset, Spec, checked_labels
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.engine.accuracy.arrays import Header

_CHANNELS = (1, 3)


class ArrayDataset(RawDataset):
    """An ``.npz`` file: ``images`` uint8 (n, height, width[, 1 or 3]) and ``labels`` (n), unpacked as they are read."""

    def __init__(self, spec: Spec) -> None:
        self._archive = Archive(spec.path)
        self._archive.require("images", "labels")
        header = self._archive.headers["images"]
        _check(spec.path, header, self._archive.headers["labels"])
        found, count = checked_labels(
            self._archive.read_integers("labels", 1),
            spec.classes or labels.size(spec.label_space),
            lambda row: f"{spec.path}: array 'labels', row {row}",
        )
        super().__init__(spec, spec.label_space, count, header.shape[1:], found)

    def raw(self, start: int = 0) -> Iterator[tuple[bytes, int]]:
        """Yield the pixels and the label of each picture from ``start`` on; those before are unpacked too."""
        size = int(np.prod(self._shape))
        with self._archive.stream("images") as (member, _):
            for _ in range(start):
                member.read(size)
            for label in self._labels[start:]:
                yield member.read(size), int(label)

    def decode(self, index: int, raw: bytes) -> Picture:
        """Return the pixels in their shape, grey ones without an axis of channels."""
        image = np.asarray(super().decode(index, raw))
        return image[:, :, 0] if self._shape[2:] == (1,) else image


def _check(path: Path, images: Header, item_labels: Header) -> None:
    """Refuse arrays that do not fit, by their headers alone."""
    shape = images.shape[1:]
    grey, channels = len(shape) == 2, shape[2:]  # noqa: PLR2004 - height and width
    if images.dtype != np.uint8 or not (grey or (len(channels) == 1 and channels[0] in _CHANNELS)):
        raise UsageError(
            "array-shape",
            f"{path}: array 'images' is {images.dtype} {images.shape}; it must be uint8 (n, height, width), "
            "(n, height, width, 1) or (n, height, width, 3).",
        )
    if (len(item_labels.shape) == 1 and images.shape[0] != item_labels.shape[0]) or 0 in shape:
        raise UsageError(
            "array-shape",
            f"{path}: array 'images' has shape {images.shape}, but 'labels' has {item_labels.shape[0]} rows; "
            "both need one row an item, and a picture at least one pixel.",
        )
    if images.shape[0] > MOST_ITEMS or int(np.prod(shape)) > pictures.MOST_BYTES:
        raise UsageError(
            "array-size",
            f"{path}: array 'images' has shape {images.shape}; at most {MOST_ITEMS:,} pictures of "
            f"{pictures.MOST_BYTES:,} bytes can be read.",
        )
