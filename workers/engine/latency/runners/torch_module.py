"""One torch module, eager or compiled, on the CPU or CUDA. Keras' models are torch modules on its torch backend."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from workers.engine.latency.runners import inputs
from workers.engine.protocol import SubjectError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from workers.engine.latency.points import Entry, OperatingPoint

_BACKEND = "inductor"
_FORMATS = {"channels_first": torch.contiguous_format, "channels_last": torch.channels_last}
_PICTURES = 4
"""Axes of a batch of pictures, the only input that has a memory format."""


class TorchRunner:
    """One entry's module in inference mode."""

    fixed_batch: int | None = None
    compile_ms: float | None = None

    def __init__(self, entry: Entry, point: OperatingPoint) -> None:
        if entry.module is None:
            raise SubjectError("no-module", f"{entry.ref} brings no torch module; measure it on onnxruntime instead.")
        self._entry = entry
        self._compiled = point.runtime == "torch-compile"
        self._dtype = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(point.precision, torch.float32)
        self.input_type = str(self._dtype).removeprefix("torch.")
        self._format = _FORMATS[point.layout or "channels_first"]
        self._device = _device(point.device)
        if self._compiled:
            _check_compiler(point.device)
        torch.set_num_threads(point.threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = point.precision == "tf32"
        torch.backends.cudnn.benchmark = False
        self._scope = contextlib.ExitStack()
        module = entry.module()
        self.framework = "keras" if self._is_keras(module) else "torch"
        if self.framework == "keras":
            self._check_keras(point)
        if self._dtype is not torch.float32:
            module = module.to(self._dtype)
        module = module.to(self._device)
        if point.layout == "channels_last":
            module = module.to(memory_format=torch.channels_last)
        self._run = torch.compile(module, backend=_BACKEND, dynamic=False) if self._compiled else module

    @staticmethod
    def _is_keras(module: Any) -> bool:
        return "keras" in sys.modules and isinstance(module, sys.modules["keras"].Model)

    def _check_keras(self, point: OperatingPoint) -> None:
        """Refuse what Keras decides itself; and keep its inputs on the point's device, where it has its own idea."""
        if self._dtype is not torch.float32 or point.layout == "channels_last":
            raise UsageError(
                "keras-settings",
                f"{self._entry.ref} is a Keras model, whose precision and layout are fixed when it is built; choose "
                "precision float32 and layout channels_first for it.",
            )
        self._scope.enter_context(sys.modules["keras"].device(point.device))

    def refusal(self, point: OperatingPoint) -> str | None:
        """Why this entry cannot run at ``point``, or None; modules take any batch."""
        if point.boundary == "end_to_end" and self._entry.contract is None:
            return inputs.NO_CONTRACT
        return None

    def free(self, folder: Path) -> None:
        """Leave nothing: a module's batch is free."""

    def call(self, point: OperatingPoint, seed: int) -> Callable[[], Any]:
        """Return the module's forward pass on a seeded input, without gradients; compiled code is made ready."""
        made = self._made(point, seed)
        if self._compiled:
            _cache_in(self._entry.work)
            started = time.perf_counter()
            made()
            self.compile_ms = (time.perf_counter() - started) * 1e3
        return made

    def _made(self, point: OperatingPoint, seed: int) -> Callable[[], Any]:
        run, inference_mode, to_host = self._run, torch.inference_mode, self._to_host
        contract = self._entry.contract
        if point.boundary == "end_to_end" and contract is not None:
            encoded, batch, ready = inputs.jpeg(contract, seed), point.batch, self._ready

            def from_picture() -> Any:
                with inference_mode():
                    return to_host(run(ready(inputs.prepared(contract, encoded, batch)).to(self._device)))

            return from_picture
        values = self._ready(inputs.random_input((point.batch, *self._entry.input_shape[1:]), "float32", seed))
        if point.boundary == "device":
            return _OnDevice(run, values.to(self._device))
        if self._device.type == "cpu":

            def forward() -> Any:
                with inference_mode():
                    return run(values)

            return forward

        def there_and_back() -> Any:
            with inference_mode():
                return to_host(run(values.to(self._device)))

        return there_and_back

    def _ready(self, values: npt.NDArray[Any]) -> torch.Tensor:
        """Return host values in the point's precision and memory format."""
        tensor = torch.from_numpy(values).to(self._dtype)
        return tensor.contiguous(memory_format=self._format) if tensor.ndim == _PICTURES else tensor

    def _to_host(self, output: Any) -> Any:
        """Copy outputs to host memory, which waits for the device."""
        if isinstance(output, torch.Tensor):
            return output.cpu()
        return [item.cpu() for item in _tensors(output)]

    def arrays(self, output: Any) -> list[npt.NDArray[Any]]:
        """Return the outputs as float arrays in host memory."""
        return [item.detach().float().cpu().numpy() for item in _tensors(output)]

    def settings(self) -> dict[str, Any]:
        """Return torch's settings in this process."""
        chosen: dict[str, Any] = {
            "version": str(torch.__version__),
            "mode": "compile" if self._compiled else "eager",
            "inference_mode": True,
            "intra_op_threads": torch.get_num_threads(),
            "omp_wait_policy": os.getenv("OMP_WAIT_POLICY"),
        }
        if self._compiled:
            chosen |= {"compile_backend": _BACKEND, "compile_mode": "default", "compile_dynamic": False}
        if self._device.type == "cuda":
            chosen |= {
                "tf32": bool(torch.backends.cudnn.allow_tf32),
                "cudnn_benchmark": bool(torch.backends.cudnn.benchmark),
                "cudnn_version": torch.backends.cudnn.version(),
                "host_memory": "pageable",
            }
        return chosen

    def device_bytes(self) -> int | None:
        """Return the peak of torch's allocator on the device since the process began, None on the CPU."""
        return int(torch.cuda.max_memory_allocated()) if self._device.type == "cuda" else None


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("no-cuda", "torch finds no usable CUDA device; choose the device cpu.")
    return torch.device(name)


def _check_compiler(device: str) -> None:
    """Refuse where inductor has nothing to compile for the CPU with; for CUDA it brings Triton."""
    if device != "cpu":
        return
    from torch._inductor import exc
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except exc.InvalidCxxCompiler as error:
        raise UsageError(
            "no-compiler",
            "torch.compile needs a C++ compiler on the CPU and finds none; install g++ where models are measured, or "
            "choose the runtime torch.",
        ) from error


def _cache_in(work: Path | None) -> None:
    """Have inductor compile in this process, and keep all that it compiles in the entry's own folder."""
    from torch._inductor import codecache, config

    config.compile_threads = 1
    # Precompiled headers would be shared by all of a machine, in a folder that no measurement may write.
    codecache._HEADER_DIR = str(Path(tempfile.gettempdir()) / "headers")  # noqa: SLF001  (no public way)
    codecache._HEADER_LOCK_DIR = str(Path(codecache._HEADER_DIR) / "locks")  # noqa: SLF001  (likewise)
    if work is not None:
        folder = work / "compiled"
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
        os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")


def precompile_headers(work: Path) -> None:
    """Compile a trifle in this process, so that torch's headers are precompiled, which it does once a session.

    Otherwise the first listing to be compiled would pay for all that follow.
    """
    _check_compiler("cpu")
    _cache_in(work)
    torch.compile(lambda x: 2 * x + 1, backend=_BACKEND)(torch.ones(64))


def _tensors(output: Any) -> list[torch.Tensor]:
    """Return the tensors of an output that may be nested."""
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return [tensor for item in output for tensor in _tensors(item)]
    return []


class _OnDevice:
    """A forward pass with input and outputs in device memory, timed by events on the current stream."""

    def __init__(self, run: Callable[[Any], Any], values: torch.Tensor) -> None:
        self._run, self._values = run, values
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def __call__(self) -> Any:
        with torch.inference_mode():
            self._start.record()
            output = self._run(self._values)
            self._end.record()
        self._end.synchronize()
        return output

    def device_ns(self) -> int:
        return round(self._start.elapsed_time(self._end) * 1e6)
