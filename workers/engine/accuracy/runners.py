"""One loaded model that turns a batch of pictures into scores: on onnxruntime or torch, on the CPU or CUDA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnxruntime

from workers.engine.accuracy import batching
from workers.engine.protocol import SubjectError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from workers.engine.contracts.contract import Contract

_INPUT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


@dataclass(frozen=True)
class Execution:
    """How a model is run. ``batch`` holds where the model does not fix its own; ``device`` is ``cpu`` or ``cuda``."""

    runtime: str = "onnxruntime"
    device: str = "cpu"
    batch: int = 32
    threads: int = 1

    def __post_init__(self) -> None:
        """Raise UsageError for what cannot be run anywhere."""
        if self.batch < 1 or self.threads < 1:
            raise UsageError(
                "batch", f"Batch {self.batch} with {self.threads} threads cannot run; both must be at least 1."
            )


class Runner(Protocol):
    """A loaded model. ``batch`` is the largest number of pictures a run, ``version`` that of the runtime."""

    batch: int
    version: str

    def run(self, pictures: NDArray[np.float32]) -> NDArray[Any]:
        """Return the model's output for at most ``batch`` pictures, one row each."""


def load(
    execution: Execution, model: Path, contract: Contract, module: Callable[[], Any] | None
) -> OnnxRuntimeRunner | TorchRunner:
    """Load a model: the file ``model``, or for torch what ``module`` returns.

    Raises UsageError for a runtime, device or contract that does not fit, SubjectError for a model that does not load.
    """
    if execution.runtime == "torch":
        return TorchRunner(execution, module)
    if execution.runtime == "onnxruntime":
        return OnnxRuntimeRunner(execution, model, contract)
    raise UsageError("runtime", f"There is no runtime {execution.runtime!r} for accuracy; choose onnxruntime or torch.")


class OnnxRuntimeRunner:
    """One onnxruntime session. A graph with its batch fixed to 1 gets a free one, where it then answers the same."""

    version = onnxruntime.__version__

    def __init__(self, execution: Execution, model: Path, contract: Contract) -> None:
        self._execution, self._model = execution, model
        self._session = self._open(str(model))
        self._input = self._only_input()
        self._check_shape(contract)
        self._type = _INPUT_TYPES[self._input.type]
        fixed = self._input.shape[0]
        self._fixed = fixed if isinstance(fixed, int) else None
        if self._fixed == 1 < execution.batch and (session := self._freed(contract)):
            self._session, self._fixed = session, None
        self.batch = self._fixed or execution.batch

    def _open(self, model: str | bytes) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._execution.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        provider = "CPUExecutionProvider"
        if self._execution.device == "cuda":
            provider = "CUDAExecutionProvider"
            if provider not in onnxruntime.get_available_providers():
                raise UsageError(
                    "no-cuda",
                    "This onnxruntime has no CUDA provider; install onnxruntime-gpu where models are measured, or "
                    "choose the device cpu.",
                )
        try:
            session = onnxruntime.InferenceSession(model, options, providers=[provider])
        except Exception as error:  # onnxruntime raises plain Exceptions of its own for each status code
            raise SubjectError("load", f"onnxruntime cannot load {self._model.name}: {error}") from error
        # Without a usable device onnxruntime only warns, and would run on the CPU under the name of CUDA.
        if session.get_providers()[0] != provider:
            raise UsageError("no-cuda", "onnxruntime finds no usable CUDA device; choose the device cpu.")
        return session

    def _only_input(self) -> onnxruntime.NodeArg:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            names = [[item.name for item in items] for items in (inputs, outputs)]
            raise SubjectError(
                "interface",
                f"{self._model.name} has inputs {names[0]} and outputs {names[1]}, but accuracy needs one picture "
                "input and one output of class scores; export the model with only these.",
            )
        if inputs[0].type not in _INPUT_TYPES:
            raise SubjectError(
                "input-type",
                f"{self._model.name} takes {inputs[0].type}, not float pictures; export it with float input.",
            )
        return inputs[0]

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

    def _freed(self, contract: Contract) -> onnxruntime.InferenceSession | None:
        """Return a session with a free batch that answers as the fixed one does; None where there is none."""
        data = batching.freed(self._model)
        if data is None:
            return None
        shape = contract.input_shape()[1:]
        try:
            session = self._open(data)
        except Exception:  # noqa: BLE001 - what a rewritten graph fails with does not matter: the original is run
            return None
        return session if batching.answers_alike(session, self._session, self._input.name, shape, self._type) else None

    def run(self, pictures: NDArray[np.float32]) -> NDArray[Any]:
        """Return the model's output for at most ``batch`` pictures, one row each."""
        m = len(pictures)
        if self._fixed is not None and m < self._fixed:
            # The last batch is filled up with copies, whose answers are dropped.
            pictures = np.concatenate([pictures, np.repeat(pictures[-1:], self._fixed - m, axis=0)])
        output = np.asarray(self._session.run(None, {self._input.name: pictures.astype(self._type, copy=False)})[0])
        return output[:m] if output.ndim and len(output) == len(pictures) else output


class TorchRunner:
    """One eager torch module in inference mode."""

    def __init__(self, execution: Execution, module: Callable[[], Any] | None) -> None:
        import torch

        if module is None:
            raise UsageError("no-module", "There is no torch module of this model; choose the runtime onnxruntime.")
        if execution.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("no-cuda", "torch finds no usable CUDA device; choose the device cpu.")
        torch.set_num_threads(execution.threads)
        self._torch, self._device = torch, torch.device(execution.device)
        self._module = module().eval().to(self._device)
        self.batch, self.version = execution.batch, str(torch.__version__)

    def run(self, pictures: NDArray[np.float32]) -> NDArray[Any]:
        """Return the module's output for a batch of pictures, one row each."""
        with self._torch.inference_mode():
            output = self._module(self._torch.from_numpy(pictures).to(self._device))
        if not isinstance(output, self._torch.Tensor):
            raise SubjectError(
                "interface",
                f"The torch module answers with {type(output).__name__}, not with one tensor of class scores; choose "
                "the runtime onnxruntime.",
            )
        answers: NDArray[Any] = output.cpu().numpy()
        return answers
