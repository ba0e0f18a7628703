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

    def _raw(self) -> Iterator[tuple[bytes, int]]:
        for image, label in zip(self._images, self._labels, strict=True):
            yield image.tobytes(), int(label)
