"""One onnxruntime session, on the CPU or CUDA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from workers.engine.accuracy import batching
from workers.engine.latency.runners import inputs
from workers.engine.protocol import SubjectError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from workers.engine.latency.points import Entry, OperatingPoint

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
}

_LEVELS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}

_CUDA = "CUDAExecutionProvider"


class OnnxRuntimeRunner:
    """One entry's file in onnxruntime. Batches that the file does not take run on its graph with a free batch."""

    framework = "onnxruntime"
    compile_ms: float | None = None

    def __init__(self, entry: Entry, point: OperatingPoint) -> None:
        self._entry, self._point = entry, point
        self._level = point.graph_optimization or "all"
        self._stream = _stream() if point.device == "cuda" else None
        self._session = self._open(str(entry.onnx))
        self._freed: onnxruntime.InferenceSession | None = None
        found = self._session.get_inputs()
        if len(found) != 1 or found[0].type not in _DTYPES:
            described = ", ".join(f"{item.name}: {item.type}" for item in found)
            raise SubjectError(
                "unsupported-inputs",
                f"{entry.ref} takes the inputs ({described}); latency needs exactly one, of {', '.join(_DTYPES)}.",
            )
        self._input = found[0]
        self.input_type = _DTYPES[self._input.type]
        first = self._input.shape[0] if self._input.shape else None
        self.fixed_batch = first if isinstance(first, int) and first > 0 else None

    def _open(self, model: str | bytes) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._point.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.graph_optimization_level = _LEVELS[self._level]
        # The pool of a session that has just run would otherwise burn the cores of the next one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self._point.device == "cpu":
            return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        if _CUDA not in onnxruntime.get_available_providers():
            raise UsageError(
                "no-cuda",
                "This onnxruntime has no CUDA provider; install onnxruntime-gpu where models are measured, or choose "
                "the device cpu.",
            )
        session = onnxruntime.InferenceSession(model, options, providers=[(_CUDA, self._cuda_options())])
        # Without a usable device onnxruntime only warns, and would run on the CPU under the name of CUDA.
        if session.get_providers()[0] != _CUDA:
            raise UsageError("no-cuda", "onnxruntime finds no usable CUDA device; choose the device cpu.")
        return session

    def _cuda_options(self) -> dict[str, str]:
        """Provider options; see https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html."""
        options = {"device_id": "0", "use_tf32": "1" if self._point.precision == "tf32" else "0"}
        # Events can time only what runs on their own stream.
        return options if self._stream is None else options | {"user_compute_stream": str(self._stream.cuda_stream)}

    def refusal(self, point: OperatingPoint) -> str | None:
        """Why this entry cannot run at ``point``, or None."""
        fixed = self.fixed_batch
        if fixed not in {None, point.batch} and self._entry.freed is None:
            return f"its graph is fixed to batch {fixed}; export it with a dynamic batch to measure batch {point.batch}"
        if point.boundary == "end_to_end" and self._entry.contract is None:
            return inputs.NO_CONTRACT
        if point.boundary == "device" and self._stream is None:
            return "its device cannot be timed, because torch, whose CUDA events are used, finds no CUDA device"
        return None

    def free(self, folder: Path) -> None:
        """Leave ``freed.onnx`` in ``folder`` when the graph, fixed to batch 1, answers the same with a free batch."""
        data = batching.freed(self._entry.onnx) if self.fixed_batch == 1 and self._entry.onnx else None
        if data is None:
            return
        try:
            session = self._open(data)
        except Exception:  # noqa: BLE001 - what a rewritten graph fails with does not matter: there is none then
            return
        dtype = np.dtype(self.input_type).type
        if batching.answers_alike(session, self._session, self._input.name, self._entry.input_shape[1:], dtype):
            (folder / "freed.onnx").write_bytes(data)

    def call(self, point: OperatingPoint, seed: int) -> Callable[[], Any]:
        """Return the session's run, outputs as numpy arrays, or as values on the device at that boundary."""
        session = self._session_for(point.batch)
        contract = self._entry.contract
        if point.boundary == "end_to_end" and contract is not None:
            encoded, batch, name, dtype = inputs.jpeg(contract, seed), point.batch, self._input.name, self.input_type

            def from_picture() -> Any:
                return session.run(None, {name: inputs.prepared(contract, encoded, batch).astype(dtype, copy=False)})

            return from_picture
        values = inputs.random_input((point.batch, *self._entry.input_shape[1:]), self.input_type, seed)
        if point.boundary == "device":
            return _OnDevice(session, self._input.name, values, self._stream, point.device)
        feed = {self._input.name: values}
        return lambda: session.run(None, feed)

    def _session_for(self, batch: int) -> onnxruntime.InferenceSession:
        if self.fixed_batch in {None, batch}:
            return self._session
        if self._freed is None:
            self._freed = self._open(str(self._entry.freed))
        return self._freed

    def arrays(self, output: Any) -> list[npt.NDArray[Any]]:
        """Return the outputs as arrays in host memory."""
        return [item if isinstance(item, np.ndarray) else item.numpy() for item in output]

    def settings(self) -> dict[str, Any]:
        """Return the session's settings."""
        chosen = self._session.get_provider_options().get(_CUDA, {})
        named = ("use_tf32", "cudnn_conv_algo_search")
        return {
            "version": onnxruntime.__version__,
            "providers": self._session.get_providers(),
            "graph_optimization": self._level,
            "intra_op_threads": self._point.threads,
            "inter_op_threads": 1,
            "spinning": False,
            **({name: chosen.get(name) for name in named} | {"host_memory": "pageable"} if chosen else {}),
        }

    def device_bytes(self) -> int | None:
        """Return None: onnxruntime does not say what its arena on the device holds."""
        return None


def _stream() -> Any:
    """Return a CUDA stream of torch's, whose events time it; None where torch is missing or finds no device."""
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.Stream() if torch.cuda.is_available() else None


class _OnDevice:
    """A run with input and outputs in device memory, timed by events on the session's own stream."""

    def __init__(self, session: Any, name: str, values: npt.NDArray[Any], stream: Any, device: str) -> None:
        import torch

        self._session, self._stream = session, stream
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(values, device, 0))
        for output in session.get_outputs():
            self._binding.bind_output(output.name, device, 0)
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def __call__(self) -> Any:
        self._start.record(self._stream)
        self._session.run_with_iobinding(self._binding)
        self._end.record(self._stream)
        self._end.synchronize()
        return self._binding.get_outputs()

    def device_ns(self) -> int:
        return round(self._start.elapsed_time(self._end) * 1e6)
