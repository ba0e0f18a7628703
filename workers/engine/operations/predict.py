"""``predict``: one model answers every item of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.accuracy import store
from workers.engine.accuracy.datasets import open_dataset
from workers.engine.accuracy.inference import predict
from workers.engine.contracts.contract import Contract
from workers.engine.protocol import Result, UsageError

if TYPE_CHECKING:
    from workers.engine.protocol import Progress


def run(request: dict[str, Any], scratch: Path, progress: Progress) -> Result:
    """Predict ``{"subject", "model", "dataset", "contract", "label_space", "batch_size", "threads"}``.

    ``model`` is the ONNX file that ``inspect`` left. File: ``predictions`` (npz, see ``accuracy.store``).
    """
    dataset = open_dataset(request["dataset"])
    predictions = predict(
        Path(request["model"]),
        _contract(request["contract"]),
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


def _contract(value: dict[str, Any]) -> Contract:
    """Read the contract to feed the model by; a person may have overridden some of its fields."""
    try:
        return Contract.from_json(value)
    except (TypeError, ValueError) as error:
        raise UsageError(
            "contract", f"The input contract has no sense: {error}; correct the overridden fields."
        ) from error
