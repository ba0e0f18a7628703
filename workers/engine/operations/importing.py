"""``import``: predictions that another tool recorded, checked and put into the order of their data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.accuracy import labels, recorded, store
from workers.engine.protocol import Result

if TYPE_CHECKING:
    from workers.engine.protocol import Progress


def run(request: dict[str, Any], scratch: Path, progress: Progress) -> Result:
    """Import ``{"path", "dataset", "label_space", "known"}``.

    ``known`` is a stored file of predictions on the same data set, whose items these must be, or null for a data set
    that these define. ``classes`` of the result is the smallest number of classes that these predictions can have.
    File: ``predictions`` (npz, see ``accuracy.store``).
    """
    progress(0, 1, f"reading {request['path']}")
    found = recorded.read(Path(request["path"]), request["dataset"])
    if request["known"] is not None:
        found = recorded.aligned(found, store.read(Path(request["known"])))
    classes = int(max(found.labels.max(), found.classes.max())) + 1
    space = request["label_space"]
    if space in labels.SPACES:
        labels.check_fits(space, classes, what=request["path"])
        classes = labels.SPACES[space]
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
