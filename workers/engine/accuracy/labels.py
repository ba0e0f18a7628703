"""Label spaces: which class index means what, and how one space's indices become another's."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.engine.accuracy import digits
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SPACES = {
    "imagenet-1k": 1000,
    "imagenet-1k-background": 1001,
    "cifar-10": 10,
    "cifar-100": 100,
    "cifar-100-coarse": 20,
    digits.LABEL_SPACE: digits.CLASSES,
}
"""Number of classes of the spaces known by name. Other names are a team's own: they fit only themselves."""

_BACKGROUND = "background"
_NO_CLASS = -1
_SYNSET = re.compile(r"n\d{8}")


@cache
def _known() -> dict[str, dict[str, Any]]:
    path = Path(__file__).parent / "label_spaces.json"
    known: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return known | {"imagenet-1k-background": {"names": [_BACKGROUND, *known["imagenet-1k"]["names"]]}}


def names(space: str | None) -> tuple[str, ...]:
    """Return the class names of a space in the order of its indices, synsets for ImageNet; none where not known."""
    return tuple(_known().get(space or "", {}).get("names", ()))


def size(space: str | None) -> int | None:
    """Return the number of classes of a space that is known by name."""
    return SPACES.get(space or "")


def superclasses(space: str | None) -> tuple[str, NDArray[np.int32]] | None:
    """Return the space of a space's superclasses and the superclass of each class; None where there are none."""
    known = _known().get(space or "", {})
    if "superclasses" not in known:
        return None
    return known["superspace"], np.array(known["superclasses"], dtype=np.int32)


def space_of(found: Sequence[str]) -> str | None:
    """Return the known space with exactly these class names in this order."""
    return next((space for space in _known() if names(space) == tuple(found)), None)


def space_of_synsets(found: Sequence[str]) -> str | None:
    """Return ``imagenet-1k`` for names that are all synsets of it: these mean one class each, whoever uses them."""
    known = set(names("imagenet-1k"))
    return "imagenet-1k" if found and all(name in known for name in found) else None


def by_name(found: Sequence[str], space: str, *, what: str, repeated: bool = False) -> list[int]:
    """Return the class index of each name in a space whose names are known.

    Raises UsageError for a name that the space has not, or, unless ``repeated``, for one that is there twice; ``what``
    begins the sentence.
    """
    index = {name: place for place, name in enumerate(names(space))}
    unknown = next((name for name in found if name not in index), None)
    if unknown is not None:
        kind = "synset" if _SYNSET.fullmatch(names(space)[-1]) else "class name"
        raise UsageError(
            "label-space-name",
            f"{what}{unknown} is no {kind} of label space {space}; correct the name, or state another label space.",
        )
    if not repeated and len(set(found)) < len(found):
        twice = next(name for place, name in enumerate(found) if name in found[:place])
        raise UsageError("class-twice", f"{what}{twice} is there twice; a class has one place.")
    return [index[name] for name in found]


def check_size(space: str | None, classes: int, *, what: str) -> None:
    """Raise UsageError when ``classes`` is not the size of a space known by name; ``what`` begins the sentence."""
    expected = SPACES.get(space or "", classes)
    if classes != expected:
        raise UsageError(
            "label-space-size",
            f"{what} has {classes} classes, but label space {space} has {expected}; correct the label space.",
        )


@dataclass(frozen=True)
class Mapping:
    """What a model's class indices are in a dataset's space.

    Attributes:
        targets: (model's classes) the dataset's class of each of them; -1 for a class that the dataset has not, such as
            the background, which is never right.
    """

    targets: NDArray[np.int32]

    @property
    def largest(self) -> int:
        """Number of classes of the larger of the two spaces, as far as they meet."""
        return max(len(self.targets), int(self.targets.max()) + 1)

    def merge(self, scores: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the dataset's classes that can be answered, (c), and their scores, (m, c), from a model's.

        Where several of the model's classes are one of the dataset's, the best of them stands for it: its answer is
        the superclass of the class it ranks first, whether the scores are logits or probabilities.
        """
        columns, starts = np.unique(np.sort(self.targets), return_index=True)
        if len(columns) == len(self.targets):
            return self.targets, scores
        order = np.argsort(self.targets, kind="stable")
        return columns.astype(np.int32), np.maximum.reduceat(scores[:, order], starts, axis=1)

    def merge_ranked(
        self, classes: NDArray[np.int32], scores: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return ranked answers, (n, m) and best first, in the dataset's classes, (n, k) with k <= m.

        As in ``merge`` the best of several stands for them. Ranks that some row no longer fills are left out: what
        follows a row's last class was not recorded.
        """
        targets = np.where(classes < 0, _NO_CLASS, self.targets[classes])
        order = np.argsort(targets, axis=1, kind="stable")
        ordered = np.take_along_axis(targets, order, axis=1)
        repeated = np.zeros(targets.shape, dtype=bool)
        np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
        filled = int((~repeated).sum(axis=1).min())
        kept = np.argsort(repeated, axis=1, kind="stable")[:, :filled]
        return np.take_along_axis(targets, kept, axis=1), np.take_along_axis(scores, kept, axis=1)


def mapping(model_space: str | None, model_classes: int, dataset_space: str | None, dataset_classes: int) -> Mapping:
    """Return what each class of a model is in a dataset's space.

    A space of None is unknown: it fits only by an equal number of classes, never through a mapping.

    Raises:
        UsageError: when the two spaces do not fit.
    """
    check_size(model_space, model_classes, what="The model")
    own = np.arange(model_classes, dtype=np.int32)
    if model_space is not None and dataset_space is not None and model_space != dataset_space:
        if (model_space, dataset_space) == ("imagenet-1k-background", "imagenet-1k"):
            return Mapping(own - 1)
        if (model_space, dataset_space) == ("imagenet-1k", "imagenet-1k-background"):
            return Mapping(own + 1)
        above = superclasses(model_space)
        if above is not None and above[0] == dataset_space:
            return Mapping(above[1])
        raise UsageError(
            "label-space",
            f"The model answers in label space {model_space} and the dataset is labelled in {dataset_space}; "
            "no mapping is known, so choose a dataset or a model of the same space.",
        )
    if model_classes != dataset_classes:
        raise UsageError(
            "label-space",
            f"The model has {model_classes} classes and the dataset {dataset_classes}; state the label space of both "
            f"(known: {', '.join(SPACES)}) or choose a dataset with the model's classes.",
        )
    return Mapping(own)
