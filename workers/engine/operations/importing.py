"""``import``: predictions that another tool recorded, checked and put into the order of their data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.accuracy import labels, recorded, store
from workers.engine.protocol import Result, UsageError

if TYPE_CHECKING:
    from workers.engine.protocol import Progress


def run(request: dict[str, Any], scratch: Path, progress: Progress) -> Result:
    """Import ``{"path", "dataset", "label_space", "known", "known_label_space", "known_classes"}``.

    ``label_space`` is that of the file's answers, ``known_label_space`` the data set's; where both are stated and
    differ, the answers are mapped as a live model's are. ``known`` is a stored file of predictions on the same data
    set, whose items these must be, or null for a data set that these define. ``classes`` of the result is the smallest
    number of classes that the data set can have. File: ``predictions`` (npz, see ``accuracy.store``).
    """
    progress(0, 1, f"reading {request['path']}")
    space, known_space = request["label_space"], request["known_label_space"]
    mapping = _mapping(request)
    answered = labels.size(space or known_space) or request["known_classes"]
    found = recorded.read(Path(request["path"]), request["dataset"], classes=answered, mapping=mapping)
    if request["known"] is not None:
        found = recorded.aligned(found, store.read(Path(request["known"])), mapping)
    classes = labels.size(known_space or space) or int(max(found.labels.max(), found.classes.max())) + 1
    digest = store.write(scratch / "predictions.npz", found)
    values = found.summary() | {
        "dataset": request["dataset"],
        "dataset_digest": found.labels_digest,
        "labels_digest": found.labels_digest,
        "label_space": space,
        "classes": classes,
        "predictions_digest": digest,
        "provenance": found.provenance,
    }
    return Result(values, {"predictions": "predictions.npz"})


def _mapping(request: dict[str, Any]) -> labels.Mapping | None:
    """Return what the file's classes are in the data set's label space; None where they are the same, or not stated.

    Raises UsageError when the two do not fit, or when nobody knows yet which of the two the labels are in.
    """
    space, known = request["label_space"], request["known_label_space"]
    if None in (space, known) or space == known:
        return None
    mapping = labels.mapping(space, labels.size(space) or 0, known, labels.size(known) or 0)
    if request["known"] is None:
        raise UsageError(
            "labels-unknown",
            f"{request['path']} answers in label space {space}, and data set {request['dataset']} is labelled in "
            f"{known} and has no predictions yet that its items are known by; run a model on it, or import predictions "
            f"in {known} first.",
        )
    return mapping
