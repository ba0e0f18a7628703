"""``predict``: one model answers every item of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.accuracy import store
from workers.engine.accuracy.datasets import open_dataset
from workers.engine.accuracy.inference import predict
from workers.engine.contracts.contract import Contract
from workers.engine.protocol import Result

if TYPE_CHECKING:
    from workers.engine.protocol import Progress


def run(request: dict[str, Any], scratch: Path, progress: Progress) -> Result:
    """Predict ``{"subject", "model", "dataset", "contract", "label_space", "batch_size", "threads"}``.

    ``model`` is the ONNX file that ``inspect`` left. File: ``predictions`` (npz, see ``accuracy.store``).
    """
    dataset = open_dataset(request["dataset"])
    predictions = predict(
        Path(request["model"]),
        Contract.from_json(request["contract"]),
        dataset,
        batch_size=request["batch_size"],
        threads=request["threads"],
        progress=progress,
        label_space=request["label_space"],
    )
    digest = store.write(scratch / "predictions.npz", predictions)
    values = predictions.summary() | {
        "dataset": dataset.name,
        "dataset_digest": dataset.digest(),
        "labels_digest": predictions.labels_digest,
        "label_space": dataset.label_space,
        "classes": dataset.classes,
        "predictions_digest": digest,
        "provenance": predictions.provenance,
    }
    return Result(values, {"predictions": "predictions.npz"})
