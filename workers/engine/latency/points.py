"""What a latency session is asked: listings that can run, and the operating points to run them at."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workers.engine.contracts.contract import Contract

RUNTIMES = ("onnxruntime", "torch")
"""What zoos ship: torch also for Keras, whose models are torch modules on its torch backend."""

_WORDS: dict[str, tuple[str | None, ...]] = {
    "runtime": (*RUNTIMES, "torch-compile", "native"),
    "device": ("cpu", "cuda"),
    "precision": ("float32", "tf32", "float16", "bfloat16"),
    "layout": (None, "channels_first", "channels_last"),
    "graph_optimization": (None, "all", "extended", "basic", "none"),
    "boundary": ("device", "host", "end_to_end"),
}
"""What each field may say; which of them go together is checked before a request is queued."""


@dataclass(frozen=True)
class OperatingPoint:
    """Where latency is measured; "faster" is never said without one.

    ``runtime`` is ``onnxruntime``, ``torch`` (eager), ``torch-compile``, or ``native``: each listing on what its zoo
    ships. ``layout`` is torch's memory format, None on other runtimes; ``graph_optimization`` is onnxruntime's level,
    None on others. ``boundary``: ``host`` is from an input in host memory to outputs in host memory, ``device`` from an
    input to outputs in the device's memory, ``end_to_end`` from an encoded picture in host memory, through the
    listing's own input contract, to outputs in host memory.
    """

    runtime: str
    batch: int = 1
    threads: int = 1
    device: str = "cpu"
    precision: str = "float32"
    layout: str | None = None
    graph_optimization: str | None = None
    boundary: str = "host"

    def __post_init__(self) -> None:
        """Name the default of what this runtime has and was not told."""
        if self.layout is None and self.runtime in {"torch", "torch-compile"}:
            object.__setattr__(self, "layout", "channels_first")
        if self.graph_optimization is None and self.runtime == "onnxruntime":
            object.__setattr__(self, "graph_optimization", "all")

    def check(self) -> None:
        """Raise UsageError when this point names something that cannot be measured."""
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                known = ", ".join(word for word in words if word)
                raise UsageError(f"unknown-{name}", f"There is no {name} {getattr(self, name)!r}; choose of {known}.")
        if self.batch < 1 or self.threads < 1:
            raise UsageError(
                "bad-operating-point",
                f"Batch {self.batch} with {self.threads} threads cannot be measured; both must be at least 1.",
            )

    @property
    def process(self) -> OperatingPoint:
        """What points that share a loaded model have in common: all but batch and boundary."""
        return replace(self, batch=1, boundary="host")

    def on(self, runtime: str) -> OperatingPoint:
        """Return this point on another runtime, at that runtime's defaults."""
        return replace(self, runtime=runtime, layout=None, graph_optimization=None)

    def to_json(self) -> dict[str, Any]:
        """Return the point's fields."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Entry:
    """One listing of a session.

    ``onnx`` is a checked file for onnxruntime points; ``module`` builds a ``torch.nn.Module`` in eval mode for torch
    points and is called inside each block's own process. An entry without the one takes no part in those points.
    ``input_shape`` is the shape of the only input with the batch first; the batch is replaced by the point's.
    ``contract`` is how its zoo prepares pictures, None where it does not say. ``work`` is the session's folder for what
    is made of this entry: a graph with a free batch, compiled code.
    """

    ref: str
    onnx: Path | None
    module: Callable[[], Any] | None
    input_shape: tuple[int, ...]
    contract: Contract | None = None
    work: Path | None = None

    @property
    def native(self) -> str:
        """The runtime that the entry's zoo ships: torch for zoos of torch and Keras models, onnxruntime for files."""
        return "onnxruntime" if self.module is None else "torch"

    def runtime(self, point: OperatingPoint) -> str:
        """The runtime that runs this entry at a point."""
        return self.native if point.runtime == "native" else point.runtime

    def runs_at(self, point: OperatingPoint) -> bool:
        """Whether this entry brings what the point's runtime needs."""
        return (self.onnx if self.runtime(point) == "onnxruntime" else self.module) is not None

    @property
    def freed(self) -> Path | None:
        """The graph with a free batch, where one has been made and proven."""
        path = None if self.work is None else self.work / "freed.onnx"
        return path if path is not None and path.is_file() else None
