"""Predictions as files: compressed ``.npz``, written atomically, checked on reading."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from workers.engine.accuracy.arrays import Archive
from workers.engine.accuracy.predictions import Predictions
from workers.engine.protocol import UsageError

_OPTIONAL = ("ids", "log_sum", "log_right")
"""Arrays that not all predictions have: names come with recorded ones, summaries of the logits with live ones."""


def write(path: Path, predictions: Predictions) -> str:
    """Write predictions to ``path`` (replaced as a whole or not at all) and return their digest."""
    about: dict[str, Any] = {"items_digest": predictions.items_digest, "dataset": predictions.dataset}
    about["provenance"] = predictions.provenance
    optional = {name: getattr(predictions, name) for name in _OPTIONAL}
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
                **{name: array for name, array in optional.items() if array is not None},
            )
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return predictions.digest()


def read(path: Path) -> Predictions:
    """Read predictions that ``write`` left; raises UsageError, naming the file and the array, for anything else."""
    archive = Archive(path)
    archive.require("labels", "classes", "scores", "about")
    about = _about(archive)
    return Predictions(
        archive.read("labels").astype(np.int32),
        archive.read("classes").astype(np.int32),
        archive.read("scores").astype(np.float32),
        about["items_digest"],
        about["dataset"],
        about["provenance"],
        **{name: archive.read(name) if name in archive.headers else None for name in _OPTIONAL},
    )


def _about(archive: Archive) -> dict[str, Any]:
    try:
        value = json.loads(archive.read("about").tobytes())
        return {name: value[name] for name in ("items_digest", "dataset", "provenance")}
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            "array-about",
            f"{archive.path}: array 'about' is not the JSON that this project writes ({error!r}); "
            "`zooaudit predictions import` reads the files of other tools.",
        ) from error
