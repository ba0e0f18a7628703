"""Live inference: one ONNX model answers every item of a dataset, batch by batch, on onnxruntime."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from scipy import special

from workers.engine.accuracy import labels
from workers.engine.accuracy.predictions import TOP, Predictions, rank
from workers.engine.contracts.apply import apply
from workers.engine.protocol import SubjectError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from workers.engine.accuracy.datasets import Dataset
    from workers.engine.contracts.contract import Contract
    from workers.engine.protocol import Progress

_INPUT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}

_SUM_TOLERANCE = 1e-3
"""How far a row of probabilities may be from adding up to one; float16 models round that much."""


def predict(
    model: Path,
    contract: Contract,
    dataset: Dataset,
    *,
    batch_size: int = 32,
    threads: int = 1,
    progress: Progress,
    label_space: str | None = None,
) -> Predictions:
    """Let a model answer every item of a dataset.

    Memory does not grow with the dataset, apart from the ranked answers. Scores are probabilities: a model whose every
    row lies in [0, 1] and adds up to one is taken at its word, any other's outputs go through softmax.

    Args:
        model: an ONNX file with one picture input and one output of class scores, (batch, classes) or with further
            axes of length 1.
        contract: how a picture becomes the model's input.
        dataset: the items.
        batch_size: items a run, where the model does not fix the batch itself.
        threads: onnxruntime's threads.
        progress: told after each batch.
        label_space: the classes that the model answers in, or None when its zoo does not say.

    Raises:
        UsageError: the contract, the dataset or the label space does not fit the model.
        SubjectError: the model cannot be loaded or run, or its scores are not finite.
    """
    runner = _Runner(model, contract, batch_size, threads)
    answers = _Answers(dataset.n)
    pictures = ((apply(contract, picture), label) for picture, label in dataset)
    mapping: labels.Mapping | None = None
    for chunk in _chunks(pictures, runner.batch):
        scores = runner.run(np.stack([picture for picture, _ in chunk]), first_item=answers.done)
        if mapping is None:
            mapping = labels.mapping(label_space, scores.shape[1], dataset.label_space, dataset.classes)
        answers.add(scores, mapping, [label for _, label in chunk])
        progress(answers.done, dataset.n, f"{model.stem} on {dataset.name}")
    classes, probabilities, outputs = answers.finish()
    return Predictions(
        labels=answers.labels,
        classes=classes,
        scores=probabilities,
        items_digest=dataset.digest(),
        dataset=dataset.name,
        provenance={
            "runtime": "onnxruntime",
            "runtime_version": onnxruntime.__version__,
            "device": "cpu",
            "batch": runner.batch,
            "threads": threads,
            "contract": contract.digest(),
            "label_space": label_space,
            "outputs": outputs,
        },
    )


def _chunks(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while chunk := list(itertools.islice(items, size)):
        yield chunk


def _load(model: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises plain Exceptions of its own for each status code
        raise SubjectError("load", f"onnxruntime cannot load {model.name}: {error}") from error


def _only_input(model: Path, session: onnxruntime.InferenceSession) -> onnxruntime.NodeArg:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        names = [[item.name for item in items] for items in (inputs, outputs)]
        raise SubjectError(
            "interface",
            f"{model.name} has inputs {names[0]} and outputs {names[1]}, but accuracy needs one picture input and one "
            "output of class scores; export the model with only these.",
        )
    if inputs[0].type not in _INPUT_TYPES:
        raise SubjectError(
            "input-type",
            f"{model.name} takes {inputs[0].type}, not float pictures; export it with float input.",
        )
    return inputs[0]


class _Runner:
    """One session, and what it needs to be fed."""

    def __init__(self, model: Path, contract: Contract, batch_size: int, threads: int) -> None:
        if batch_size < 1 or threads < 1:
            raise UsageError("batch", f"Batch {batch_size} with {threads} threads cannot run; both must be at least 1.")
        self._model = model
        self._session = _load(model, threads)
        self._input = _only_input(model, self._session)
        self._check_shape(contract)
        fixed = self._input.shape[0]
        self._fixed = fixed if isinstance(fixed, int) else None
        self.batch = self._fixed or batch_size

    def _check_shape(self, contract: Contract) -> None:
        expected = contract.input_shape()
        actual = list(self._input.shape)
        fits = len(actual) == len(expected) and all(
            not isinstance(side, int) or side == wanted for side, wanted in zip(actual[1:], expected[1:], strict=True)
        )
        if not fits:
            raise UsageError(
                "contract-shape",
                f"{self._model.name} takes {actual}, but its input contract makes {list(expected)} "
                f"({contract.layout}); correct the contract's height, width, colour or layout.",
            )

    def run(self, pictures: NDArray[np.float32], *, first_item: int) -> NDArray[np.float32]:
        """Return the scores, float32 (m, classes), of m pictures, at most ``batch``."""
        m = len(pictures)
        if self._fixed is not None and m < self._fixed:
            # The last batch is filled up with copies, whose answers are dropped.
            pictures = np.concatenate([pictures, np.repeat(pictures[-1:], self._fixed - m, axis=0)])
        feed = {self._input.name: pictures.astype(_INPUT_TYPES[self._input.type], copy=False)}
        try:
            output = np.asarray(self._session.run(None, feed)[0])
        except Exception as error:  # as above
            raise SubjectError(
                "run", f"{self._model.name} fails on items {first_item} to {first_item + m - 1}: {error}"
            ) from error
        if not _is_one_row_an_item(output.shape, len(pictures)):
            raise SubjectError(
                "output-shape",
                f"{self._model.name} answers with shape {list(output.shape)} for {len(pictures)} pictures, not with "
                "[pictures, classes]; export it with its classifier as the only output.",
            )
        scores = output.reshape(len(pictures), -1)[:m].astype(np.float32)
        finite = np.isfinite(scores).all(axis=1)
        if not finite.all():
            item = first_item + int(np.argmin(finite))
            raise SubjectError(
                "scores-not-finite",
                f"{self._model.name} answers item {item} with scores that are not finite, which cannot be ranked; "
                "check the input contract's range and the model's weights.",
            )
        return scores


def _is_one_row_an_item(shape: tuple[int, ...], items: int) -> bool:
    """Whether an output is (items, classes), with further axes only of length 1, as convolutional heads leave them."""
    return len(shape) > 1 and shape[0] == items and sum(side != 1 for side in shape[1:]) == 1


@dataclass
class _Answers:
    """The ranked answers so far; allocated once, when the number of classes is known."""

    n: int
    done: int = 0

    def __post_init__(self) -> None:
        self.labels = np.zeros(self.n, dtype=np.int32)
        self._log_sum = np.zeros(self.n, dtype=np.float64)
        self._classes = np.zeros((self.n, 0), dtype=np.int32)
        self._scores = np.zeros((self.n, 0), dtype=np.float32)
        self._probabilities = True

    def add(self, scores: NDArray[np.float32], mapping: labels.Mapping, right: list[int]) -> None:
        """Rank the scores, (m, classes), of the next m items."""
        m = len(scores)
        classes, merged = mapping.merge(scores)
        if self.done == 0:
            k = min(TOP, len(classes))
            self._classes = np.zeros((self.n, k), dtype=np.int32)
            self._scores = np.zeros((self.n, k), dtype=np.float32)
        rows = slice(self.done, self.done + m)
        places, self._scores[rows] = _best(merged, self._classes.shape[1])
        self._classes[rows] = classes[places]
        self.labels[rows] = right
        sums = scores.sum(axis=1, dtype=np.float64)
        self._probabilities &= bool(
            scores.min() >= 0 and scores.max() <= 1 + _SUM_TOLERANCE and (abs(sums - 1) <= _SUM_TOLERANCE).all()
        )
        self._log_sum[rows] = special.logsumexp(scores.astype(np.float64), axis=1)
        self.done += m

    def finish(self) -> tuple[NDArray[np.int32], NDArray[np.float32], str]:
        """Return classes, probabilities, and what the outputs were: ``probabilities`` or ``logits``."""
        if self._probabilities:
            return self._classes, self._scores, "probabilities"
        return self._classes, np.exp(self._scores - self._log_sum[:, None]).astype(np.float32), "logits"


def _best(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the k best classes of each row and their scores; ties by class index."""
    m, count = scores.shape
    indices = np.broadcast_to(np.arange(count, dtype=np.int32), (m, count))
    return rank(indices, scores, k)
