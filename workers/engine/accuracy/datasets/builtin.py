"""``digits``: the built-in data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.engine.accuracy import digits
from workers.engine.accuracy.datasets.base import RawDataset, Spec

if TYPE_CHECKING:
    from collections.abc import Iterator


class DigitsDataset(RawDataset):
    """The held-out half of scikit-learn's digits, which the example zoos' training never sees."""

    def __init__(self, spec: Spec) -> None:
        self._images, item_labels = digits.part("test")
        super().__init__(spec, digits.LABEL_SPACE, digits.CLASSES, self._images.shape[1:], item_labels)

    def raw(self, start: int = 0) -> Iterator[tuple[bytes, int]]:
        """Yield the pixels and the label of each picture from ``start`` on."""
        for image, label in zip(self._images[start:], self._labels[start:], strict=True):
            yield image.tobytes(), int(label)
