"""Turns an entry into a call that a block can time."""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from workers.engine.protocol import SubjectError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from workers.engine.latency.points import Entry

ONNXRUNTIME_SETTINGS = {"graph_optimization": "all", "inter_op_threads": 1, "spinning": False}
"""Spinning is off because the pool of a session that has just run would otherwise burn the cores of the next one."""

TORCH_SETTINGS = {"mode": "eager", "inference_mode": True}

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
}


class Runner(Protocol):
    """A loaded entry."""

    def refusal(self, batch: int) -> str | None:
        """Why this entry cannot run at ``batch``, or None."""

    def call(self, batch: int, seed: int) -> Callable[[], Any]:
        """Return the call to time, its input already in memory; equal shapes get equal inputs from equal seeds."""


def random_input(shape: tuple[int, ...], dtype: str, seed: int) -> npt.NDArray[Any]:
    """Seeded input of ``shape``: standard normal values, or bytes for ``uint8``."""
    rng = np.random.default_rng((seed, *shape))
    if dtype == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.standard_normal(shape, dtype=np.float32).astype(dtype)


class OnnxRuntimeRunner:
    """One onnxruntime session on the CPU."""

    def __init__(self, entry: Entry, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(entry.onnx), options, providers=["CPUExecutionProvider"])
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _DTYPES:
            described = ", ".join(f"{item.name}: {item.type}" for item in inputs)
            raise SubjectError(
                "unsupported-inputs",
                f"{entry.ref} takes the inputs ({described}); latency needs exactly one, of {', '.join(_DTYPES)}.",
            )
        self._input = inputs[0]
        self._shape = entry.input_shape

    def refusal(self, batch: int) -> str | None:
        """Why this graph cannot run at ``batch``, or None."""
        fixed = self._input.shape[0] if self._input.shape else None
        if isinstance(fixed, int) and fixed not in (batch, 0):
            return f"its graph is fixed to batch {fixed}; export it with a dynamic batch to measure batch {batch}"
        return None

    def call(self, batch: int, seed: int) -> Callable[[], Any]:
        """Return the session's run on a seeded input, outputs as numpy arrays."""
        shape = (batch, *self._shape[1:])
        feed = {self._input.name: random_input(shape, _DTYPES[self._input.type], seed)}
        run = self._session.run
        return lambda: run(None, feed)


class TorchRunner:
    """One eager torch module on the CPU."""

    def __init__(self, entry: Entry, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        if entry.module is None:
            raise SubjectError("no-module", f"{entry.ref} brings no torch module; measure it on onnxruntime instead.")
        self._torch = torch
        self._module = entry.module()
        self._shape = entry.input_shape

    def refusal(self, batch: int) -> str | None:
        """Eager modules take any batch."""
        del batch
        return None

    def call(self, batch: int, seed: int) -> Callable[[], Any]:
        """Return the module's forward pass on a seeded input, without gradients."""
        inputs = self._torch.from_numpy(random_input((batch, *self._shape[1:]), "float32", seed))
        module, inference_mode = self._module, self._torch.inference_mode

        def forward() -> object:
            with inference_mode():
                return module(inputs)

        return forward


def preload(runtime: str) -> None:
    """Import ``runtime`` without running anything, so that every process forked afterwards has it at once."""
    importlib.import_module(runtime)


def load(entry: Entry, runtime: str, threads: int) -> Runner:
    """Load ``entry`` for ``runtime`` in this process."""
    if not entry.input_shape or math.prod(entry.input_shape) < 1:
        raise SubjectError("bad-input-shape", f"{entry.ref} has the input shape {entry.input_shape}; name every size.")
    return OnnxRuntimeRunner(entry, threads) if runtime == "onnxruntime" else TorchRunner(entry, threads)
