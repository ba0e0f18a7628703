"""``predict``: one model answers every item of a data set."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.accuracy import store
from workers.engine.accuracy.datasets import open_dataset
from workers.engine.accuracy.inference import Inference
from workers.engine.accuracy.runners import Execution
from workers.engine.contracts.contract import Contract
from workers.engine.operations.subjects import module_of
from workers.engine.protocol import Result, UsageError

if TYPE_CHECKING:
    from workers.engine.accuracy.datasets import Dataset
    from workers.engine.accuracy.predictions import Predictions
    from workers.engine.protocol import Progress


def run(request: dict[str, Any], scratch: Path, progress: Progress) -> Result:
    """Predict ``{"subject", "model", "dataset", "contract", "label_space", "execution", "at_most"}``.

    ``model`` is the ONNX file that ``inspect`` left, ``execution`` the fields of ``runners.Execution``. A data set of
    more than ``at_most`` items is only counted: the result is then ``{"items"}`` without a file, and the work is to be
    divided. File: ``predictions`` (npz, see ``accuracy.store``).
    """
    dataset = open_dataset(request["dataset"])
    if dataset.n > request["at_most"]:
        return Result({"items": dataset.n})
    return stored(inference(request, dataset, progress).predict(), dataset, scratch)


def inference(request: dict[str, Any], dataset: Dataset, progress: Progress) -> Inference:
    """Return the inference that a request asks for."""
    return Inference(
        Path(request["model"]),
        _contract(request["contract"]),
        dataset,
        Execution(**request["execution"]),
        progress=progress,
        label_space=request["label_space"],
        module=partial(module_of, request["subject"]),
    )


def stored(predictions: Predictions, dataset: Dataset, scratch: Path) -> Result:
    """Write predictions to the scratch folder and return the operation's result."""
    digest = store.write(scratch / "predictions.npz", predictions)
    values = predictions.summary() | {
        "dataset": dataset.name,
        "dataset_digest": predictions.items_digest,
        "labels_digest": predictions.labels_digest,
        "label_space": dataset.label_space,
        "classes": dataset.classes,
        "predictions_digest": digest,
        "provenance": predictions.provenance,
        "self_noise": predictions.provenance["self_noise"],
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
