"""Live inference: one model answers the items of a data set, batch by batch, and some of them a second time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.engine.accuracy import labels, runners
from workers.engine.accuracy.answers import Answers
from workers.engine.accuracy.feed import batches
from workers.engine.accuracy.predictions import Predictions
from workers.engine.protocol import EngineError, SubjectError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from workers.engine.accuracy.datasets import Dataset
    from workers.engine.accuracy.feed import Batch
    from workers.engine.accuracy.runners import Execution, Runner
    from workers.engine.contracts.contract import Contract
    from workers.engine.protocol import Progress

TWICE = 512
"""Items that are answered a second time, to see how much of a disagreement is rounding."""


class Inference:
    """One model over one data set.

    Args:
        model: an ONNX file with one picture input and one output of class scores, (batch, classes) or with further
            axes of length 1.
        contract: how a picture becomes the model's input.
        dataset: the items.
        execution: how to run it.
        progress: told after each batch.
        label_space: the classes that the model answers in, or None when its zoo does not say.
        module: what loads the model for the runtime torch.
    """

    def __init__(
        self,
        model: Path,
        contract: Contract,
        dataset: Dataset,
        execution: Execution,
        *,
        progress: Progress,
        label_space: str | None = None,
        module: Callable[[], Any] | None = None,
    ) -> None:
        self._model, self._contract, self._dataset, self._execution = model, contract, dataset, execution
        self._progress, self._label_space, self._module = progress, label_space, module
        self._what = f"{model.stem} on {dataset.name}"

    def predict(self) -> Predictions:
        """Let the model answer every item, and the first ones twice; ``answer`` says what this raises."""
        answers, provenance = self.answer()
        return finished(answers, self._dataset, provenance | {"self_noise": self.self_noise(answers)})

    def load(self) -> Runner:
        """Load the model; raises UsageError and SubjectError."""
        return self._load(self._execution)

    def answer(
        self, start: int = 0, stop: int | None = None, runner: Runner | None = None
    ) -> tuple[Answers, dict[str, Any]]:
        """Let the model, or what ``load`` has given, answer the items [start, stop); return also how they were made.

        Memory does not grow with the number of items, apart from the ranked answers. The floats of an answer depend on
        the items that share its batch: shards that start at multiples of the batch get those of one run.

        Raises:
            UsageError: the contract, the data set, the label space or the runtime does not fit the model.
            SubjectError: the model cannot be loaded or run, or its scores are not finite.
        """
        stop = self._dataset.n if stop is None else stop
        runner = runner or self.load()
        answers = Answers(start, stop)
        mapping: labels.Mapping | None = None
        for batch, scores in self._scores(runner, start, stop):
            mapping = mapping or self._mapping(scores.shape[1])
            answers.add(scores, mapping, batch)
            self._progress(answers.done, stop - start, self._what)
        return answers, self._provenance(runner)

    def self_noise(self, answers: Answers) -> dict[str, Any]:
        """Answer the first items of ``answers`` again with another batch and other threads; count whose best changes.

        At most ``TWICE`` items. A graph that fixes its batch is run with other threads alone. Returns ``{"items",
        "flips", "batch", "threads"}``, the latter two being the second run's.
        """
        start, items = answers.start, min(TWICE, answers.done)
        execution = replace(
            self._execution,
            batch=1 if self._execution.batch > 1 else 2,
            threads=1 if self._execution.threads > 1 else 2,
        )
        runner = self._load(execution)
        again = np.concatenate([scores.argmax(axis=1) for _, scores in self._noisy(runner, start, start + items)])
        first = answers.classes[:items, 0]
        flips = int(np.count_nonzero(self._mapping(answers.columns).targets[again] != first))
        return {"items": items, "flips": flips, "batch": runner.batch, "threads": execution.threads}

    def _mapping(self, columns: int) -> labels.Mapping:
        return labels.mapping(self._label_space, columns, self._dataset.label_space, self._dataset.classes)

    def _noisy(self, runner: Runner, start: int, stop: int) -> Iterator[tuple[Batch, NDArray[np.float32]]]:
        for batch, scores in self._scores(runner, start, stop):
            done = batch.first + len(scores) - start
            self._progress(done, stop - start, f"{self._what} again, for its self-noise")
            yield batch, scores

    def _load(self, execution: Execution) -> Runner:
        return runners.load(execution, self._model, self._contract, self._module)

    def _scores(self, runner: Runner, start: int, stop: int) -> Iterator[tuple[Batch, NDArray[np.float32]]]:
        """Yield each batch with the scores, float32 (m, classes), that the model gives it."""
        for batch in batches(self._dataset, self._contract, runner.batch, start=start, stop=stop):
            m = len(batch.pictures)
            try:
                output = runner.run(batch.pictures)
            except (EngineError, MemoryError):
                raise
            except Exception as error:  # the runtimes raise many kinds; all say that the model does not run on these
                raise SubjectError(
                    "run", f"{self._model.name} fails on items {batch.first} to {batch.first + m - 1}: {error}"
                ) from error
            yield batch, _checked(output, batch, self._model.name)

    def _provenance(self, runner: Runner) -> dict[str, Any]:
        return {
            "runtime": self._execution.runtime,
            "runtime_version": runner.version,
            "device": self._execution.device,
            "batch": runner.batch,
            "threads": self._execution.threads,
            "contract": self._contract.digest(),
            "label_space": self._label_space,
        }


def finished(answers: Answers, dataset: Dataset, provenance: dict[str, Any]) -> Predictions:
    """Return the answers to all of a data set's items as predictions."""
    final = answers.finish()
    return Predictions(
        labels=answers.labels,
        classes=answers.classes,
        scores=final.scores,
        items_digest=dataset.joined_digest(answers.digests),
        dataset=dataset.name,
        provenance=provenance | {"outputs": final.outputs},
        log_sum=final.log_sum,
        log_right=final.right,
    )


def _checked(output: NDArray[Any], batch: Batch, name: str) -> NDArray[np.float32]:
    """Return a model's output as finite scores, float32 (m, classes); raises SubjectError."""
    m = len(batch.pictures)
    if not _is_one_row_an_item(output.shape, m):
        raise SubjectError(
            "output-shape",
            f"{name} answers with shape {list(output.shape)} for {m} pictures, not with [pictures, classes]; export it "
            "with its classifier as the only output.",
        )
    scores: NDArray[np.float32] = output.reshape(m, -1).astype(np.float32)
    finite = np.isfinite(scores).all(axis=1)
    if not finite.all():
        item = batch.first + int(np.argmin(finite))
        raise SubjectError(
            "scores-not-finite",
            f"{name} answers item {item} with scores that are not finite, which cannot be ranked; check the input "
            "contract's range and the model's weights.",
        )
    return scores


def _is_one_row_an_item(shape: tuple[int, ...], items: int) -> bool:
    """Whether an output is (items, classes), with further axes only of length 1, as convolutional heads leave them."""
    return len(shape) > 1 and shape[0] == items and sum(side != 1 for side in shape[1:]) == 1
