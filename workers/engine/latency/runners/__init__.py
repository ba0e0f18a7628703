"""Turns an entry into calls that a block can time: one file a runtime."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, Protocol

from workers.engine.protocol import SubjectError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from workers.engine.latency.points import Entry, OperatingPoint


class Runner(Protocol):
    """An entry loaded in this process, for points that differ in batch and boundary alone."""

    framework: str
    """What the zoo's own call goes through: onnxruntime, torch or keras (on its torch backend)."""

    input_type: str
    """Type of the numbers that the model takes, as numpy names it."""

    fixed_batch: int | None
    """The only batch that the model itself takes; None for any."""

    compile_ms: float | None
    """What compiling cost before the latest ``call`` was ready, or loading what had been compiled; else None."""

    def refusal(self, point: OperatingPoint) -> str | None:
        """Why this entry cannot run at ``point``, or None."""

    def free(self, folder: Path) -> None:
        """Leave ``freed.onnx`` in ``folder`` when a graph whose batch is fixed answers the same with a free one."""

    def call(self, point: OperatingPoint, seed: int) -> Callable[[], Any]:
        """Return the call to time, its input in memory; equal shapes get equal inputs from equal seeds.

        At the boundary ``device`` it is a ``clock.DeviceCall``.
        """

    def arrays(self, output: Any) -> list[npt.NDArray[Any]]:
        """Return what a call has given as arrays in host memory."""

    def settings(self) -> dict[str, Any]:
        """Return every setting of the runtime that matters to latency, as it stands in this process."""

    def device_bytes(self) -> int | None:
        """Return the most device memory in use since the entry was loaded, None on the CPU or where nobody says."""


def preload(*runtimes: str) -> None:
    """Import runtimes without running anything, so that every process forked afterwards has them at once."""
    wanted = set(runtimes)
    if "onnxruntime" in wanted:
        import onnxruntime  # noqa: F401
    if {"torch", "torch-compile"} & wanted:
        import torch
    if "torch-compile" in wanted:
        # Its pool of compiling processes would be started by the import, and does not survive a fork.
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
        import torch._dynamo
        import torch._inductor.compile_fx  # noqa: F401


def load(entry: Entry, point: OperatingPoint) -> Runner:
    """Load ``entry`` for ``point`` in this process; raises UsageError and SubjectError."""
    if not entry.input_shape or math.prod(entry.input_shape) < 1:
        raise SubjectError("bad-input-shape", f"{entry.ref} has the input shape {entry.input_shape}; name every size.")
    if entry.runtime(point) == "onnxruntime":
        from workers.engine.latency.runners.onnx_session import OnnxRuntimeRunner

        return OnnxRuntimeRunner(entry, point)
    from workers.engine.latency.runners.torch_module import TorchRunner

    return TorchRunner(entry, point)
