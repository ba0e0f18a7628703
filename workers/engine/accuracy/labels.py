"""Label spaces: which class index means what, and how one space's indices become another's."""

from __future__ import annotations

from workers.engine.accuracy import digits
from workers.engine.protocol import UsageError

SPACES = {
    "imagenet-1k": 1000,
    "imagenet-1k-background": 1001,
    digits.LABEL_SPACE: digits.CLASSES,
}
"""Number of classes of the spaces known by name. Other names are a team's own: they fit only themselves."""

_OFFSETS = {
    # Index 0 of the 1001 classes is the background, which becomes -1: a class that is never right.
    ("imagenet-1k-background", "imagenet-1k"): -1,
    ("imagenet-1k", "imagenet-1k-background"): 1,
}


def check_size(space: str | None, classes: int, *, what: str) -> None:
    """Raise UsageError when ``classes`` is not the size of a space known by name; ``what`` begins the sentence."""
    expected = SPACES.get(space or "", classes)
    if classes != expected:
        raise UsageError(
            "label-space-size",
            f"{what} has {classes} classes, but label space {space} has {expected}; correct the label space.",
        )


def check_fits(space: str, classes: int, *, what: str) -> None:
    """Raise UsageError when indices up to ``classes - 1`` are outside a space known by name."""
    if classes > SPACES[space]:
        raise UsageError(
            "label-range",
            f"{what} holds the class index {classes - 1}, but label space {space} has {SPACES[space]} classes; correct "
            "the label space.",
        )


def offset(model_space: str | None, model_classes: int, dataset_space: str | None, dataset_classes: int) -> int:
    """Return what is added to a model's class index to give the dataset's.

    A space of None is unknown: it fits only by an equal number of classes, never through a mapping.

    Raises:
        UsageError: when the two spaces do not fit.
    """
    check_size(model_space, model_classes, what="The model")
    if model_space is not None and dataset_space is not None and model_space != dataset_space:
        if (model_space, dataset_space) not in _OFFSETS:
            raise UsageError(
                "label-space",
                f"The model answers in label space {model_space} and the dataset is labelled in {dataset_space}; "
                "no mapping is known, so choose a dataset or a model of the same space.",
            )
        return _OFFSETS[model_space, dataset_space]
    if model_classes != dataset_classes:
        raise UsageError(
            "label-space",
            f"The model has {model_classes} classes and the dataset {dataset_classes}; state the label space of both "
            f"(known: {', '.join(SPACES)}) or choose a dataset with the model's classes.",
        )
    return 0
