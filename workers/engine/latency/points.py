"""What a latency session is asked: listings that can run, and the operating points to run them at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUNTIMES = ("onnxruntime", "torch")

BOUNDARY = "host to host"
"""From an input in host memory to the outputs in host memory; preprocessing and file access lie outside."""


@dataclass(frozen=True)
class OperatingPoint:
    """Where latency is measured; "faster" is never said without one."""

    runtime: Literal["onnxruntime", "torch"]
    batch: int = 1
    threads: int = 1
    device: str = "cpu"

    def check(self) -> None:
        """Raise UsageError when this point names something that cannot be measured."""
        if self.runtime not in RUNTIMES:
            raise UsageError(
                "unknown-runtime", f"There is no runtime {self.runtime!r}; choose one of {', '.join(RUNTIMES)}."
            )
        if self.device != "cpu":
            raise UsageError("unknown-device", f"Latency on device {self.device!r} is not supported; choose cpu.")
        if self.batch < 1 or self.threads < 1:
            raise UsageError(
                "bad-operating-point",
                f"Batch {self.batch} with {self.threads} threads cannot be measured; both must be at least 1.",
            )


@dataclass(frozen=True)
class Entry:
    """One listing of a session.

    ``onnx`` is a checked file for onnxruntime points; ``module`` builds a ``torch.nn.Module`` in eval mode for torch
    points and is called inside each block's own process. An entry without the one takes no part in those points.
    ``input_shape`` is the shape of the only input with the batch first; the batch is replaced by the point's.
    """

    ref: str
    onnx: Path | None
    module: Callable[[], Any] | None
    input_shape: tuple[int, ...]

    def runs_on(self, runtime: str) -> bool:
        """Whether this entry brings what ``runtime`` needs."""
        return (self.onnx if runtime == "onnxruntime" else self.module) is not None
