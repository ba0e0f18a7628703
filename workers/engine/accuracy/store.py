"""Predictions as files: compressed ``.npz``, written atomically, checked on reading."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.engine.accuracy.arrays import Archive
from workers.engine.accuracy.predictions import TOP, Predictions, rank
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BACKGROUND = -1
_LARGEST_CLASS = np.iinfo(np.int32).max


def write(path: Path, predictions: Predictions) -> str:
    """Write predictions to ``path`` (replaced as a whole or not at all) and return their digest."""
    about: dict[str, Any] = {"items_digest": predictions.items_digest, "dataset": predictions.dataset}
    about["provenance"] = predictions.provenance
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(
                file,
                labels=predictions.labels.astype("<i4"),
                classes=predictions.classes.astype("<i4"),
                scores=predictions.scores.astype("<f4"),
                about=np.frombuffer(json.dumps(about, sort_keys=True).encode(), dtype=np.uint8),
            )
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return predictions.digest()


def read(path: Path, *, dataset: str = "") -> Predictions:
    """Read predictions that ``write`` left, or that another tool recorded.

    A recorded file has the arrays ``labels`` (n), ``classes`` (n, k) and ``scores`` (n, k), columns in any order;
    its items are known by their labels alone, so its items' digest is one of the labels.

    Args:
        path: an ``.npz`` file.
        dataset: name of the dataset, for a file that does not state one.

    Raises:
        UsageError: naming the file, the array and the row that does not fit.
    """
    archive = Archive(path)
    archive.require("labels", "classes", "scores")
    labels = archive.read_integers("labels", 1)
    classes = archive.read_integers("classes", 2)
    scores = archive.read("scores")
    _check_shapes(path, labels, classes, scores)
    _check_rows(path, labels, classes, scores)
    ranked_classes, ranked_scores = rank(classes, scores, TOP)
    about = _about(archive)
    return Predictions(
        labels.astype(np.int32),
        ranked_classes,
        ranked_scores,
        about.get("items_digest") or labels_digest(labels),
        about.get("dataset") or dataset,
        about.get("provenance") or {"recorded": True},
    )


def labels_digest(labels: NDArray[np.integer[Any]]) -> str:
    """Digest of items that are known by their labels alone; never equal to a digest of items' bytes."""
    return "labels-" + hashlib.sha256(np.ascontiguousarray(labels, dtype="<i4").tobytes()).hexdigest()


def _about(archive: Archive) -> dict[str, Any]:
    if "about" not in archive.headers:
        return {}
    try:
        value = json.loads(archive.read("about").tobytes())
    except ValueError as error:
        raise UsageError(
            "array-about",
            f"{archive.path}: array 'about' is not the JSON that this project writes ({error}); remove it.",
        ) from error
    return value if isinstance(value, dict) else {}


def _check_shapes(
    path: Path, labels: NDArray[np.integer[Any]], classes: NDArray[np.integer[Any]], scores: NDArray[Any]
) -> None:
    if not np.issubdtype(scores.dtype, np.floating) or scores.shape != classes.shape:
        raise UsageError(
            "array-shape",
            f"{path}: array 'scores' is {scores.dtype} {scores.shape}; it must hold floats in the shape of 'classes', "
            f"{classes.shape}.",
        )
    if classes.shape[0] != labels.shape[0]:
        raise UsageError(
            "array-shape",
            f"{path}: array 'classes' has {classes.shape[0]} rows, but 'labels' has {labels.shape[0]}; "
            "both need one row an item.",
        )


def _check_rows(
    path: Path, labels: NDArray[np.integer[Any]], classes: NDArray[np.integer[Any]], scores: NDArray[np.floating[Any]]
) -> None:
    ordered = np.sort(classes, axis=1)
    faults: tuple[tuple[str, Any, str], ...] = (
        ("labels", (labels < 0) | (labels > _LARGEST_CLASS), "a label that is no class index"),
        (
            "classes",
            ((classes < _BACKGROUND) | (classes > _LARGEST_CLASS)).any(axis=1),
            "a class that is no class index",
        ),
        ("classes", (ordered[:, 1:] == ordered[:, :-1]).any(axis=1), "the same class twice"),
        ("scores", ~np.isfinite(scores).all(axis=1), "a score that is not finite"),
    )
    for name, bad, what in faults:
        if bad.any():
            row = int(np.argmax(bad))
            raise UsageError(
                "array-row", f"{path}: array {name!r}, row {row} has {what}; correct that row and try again."
            )
