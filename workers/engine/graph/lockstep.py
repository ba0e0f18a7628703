"""Running canonical models: two in float64 side by side, every aligned node pair compared; one in float32."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from workers.engine.graph import double, interface
from workers.engine.graph.probe import IR_VERSION
from workers.engine.graph.transplant import wide
from workers.engine.protocol import SubjectError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from workers.engine.graph.transplant import Placed, Weights

Array = np.ndarray[Any, Any]
_PICTURE_RANK = 4
_INSIDE = 4096
"""Constants up to this many elements stay in the model that onnxruntime reads."""

Batch = list[Array]
"""One array for each of the inputs that are run."""


class Run:
    """A canonical model computed in float64, node by node in canonical order, all inputs at once.

    ``kept`` names values, by id(), that somebody else reads as well; every other value is forgotten after its last use.
    """

    def __init__(self, placed: Placed, inputs: Sequence[Batch], weights: Weights, kept: Counter[int]) -> None:
        graph = placed.model.graph
        self._weights = weights
        self._uses = Counter(kept)
        self._uses.update(id(value) for value in graph.outputs)
        members = {id(node) for node in graph}
        self.nodes = [item for item in placed.items if isinstance(item, ir.Node) and id(item) in members]
        for node in self.nodes:
            self._uses.update(id(value) for value in node.inputs if value is not None)
        self._values = {
            id(value): [np.asarray(given[place], dtype=_widened(given[place])) for given in inputs]
            for place, value in enumerate(graph.inputs)
        }
        self._outputs = tuple(graph.outputs)

    def step(self, node: ir.Node) -> None:
        """Compute one node whose inputs have been computed."""
        columns: list[Batch | Array | None] = []
        for index, value in enumerate(node.inputs):
            if value is None:
                columns.append(None)
            elif value.const_value is not None:
                compute = self._weights.get((id(node), index))
                columns.append(wide(node, index) if compute is None else compute())
            else:
                columns.append(self._values[id(value)])
        count = max((len(column) for column in columns if isinstance(column, list)), default=1)
        rows = [
            double.evaluate(node, [column[row] if isinstance(column, list) else column for column in columns])
            for row in range(count)
        ]
        for value in node.inputs:
            if value is not None and value.const_value is None:
                self.release(value)
        for index, output in enumerate(node.outputs[: len(rows[0])]):
            if self._uses[id(output)]:
                self._values[id(output)] = [row[index] for row in rows]

    def release(self, value: ir.Value) -> None:
        """Count one use of a value; forget it after the last."""
        self._uses[id(value)] -= 1
        if not self._uses[id(value)]:
            self._values.pop(id(value), None)

    def value(self, value: ir.Value) -> Batch | None:
        """Return what was computed for a value that is still kept."""
        return self._values.get(id(value))

    def outputs(self) -> list[Batch]:
        """Return the model's outputs once every node was computed."""
        return [self._values[id(value)] for value in self._outputs]


def run_double(placed: Placed, inputs: Sequence[Batch], deadline: float) -> list[Batch]:
    """Compute one model's outputs in float64. Raises SubjectError after the deadline (``time.monotonic``)."""
    run = Run(placed, inputs, {}, Counter())
    for node in run.nodes:
        if time.monotonic() > deadline:
            raise SubjectError("proof-too-slow", "the time for running the models was over.")
        run.step(node)
    return run.outputs()


def run_both(
    a: Run, b: Run, pairs: Sequence[tuple[ir.Node, ir.Node]], report: Callable[[int, float], None], deadline: float
) -> None:
    """Compute both models, reporting (place in ``pairs``, relative error) as soon as both nodes of a pair are known."""
    where = {id(node): place for place, pair in enumerate(pairs) for node in pair}
    half_done: set[int] = set()

    def step(run: Run, node: ir.Node) -> int | None:
        """Compute a node; return its place in ``pairs`` when its partner is still to come."""
        if time.monotonic() > deadline:
            raise SubjectError("proof-too-slow", "the time for running both models was over.")
        run.step(node)
        place = where.get(id(node))
        if place is None or place not in half_done:
            half_done.update(() if place is None else (place,))
            return place
        half_done.remove(place)
        left, right = (side.outputs[0] for side in pairs[place])
        found_a, found_b = a.value(left), b.value(right)
        if found_a is not None and found_b is not None:
            ((found_a,), (found_b,)) = interface.without_background([found_a], [found_b])
            report(place, relative_error(found_b, found_a))
        a.release(left)
        b.release(right)
        return None

    rest = iter(b.nodes)
    for node in a.nodes:
        waiting = step(a, node)
        # B follows up to the partner, so that neither side's results have to be kept for long.
        while waiting in half_done and (other := next(rest, None)) is not None:
            step(b, other)
    for other in rest:
        step(b, other)


def run_float(placed: Placed, inputs: Sequence[Batch]) -> list[Batch]:
    """Compute a canonical model's outputs in float32 with onnxruntime."""
    graph = placed.model.graph
    large = [value for value in graph.initializers.values() if value.const_value.size > _INSIDE]
    fed = {str(value.name): np.ascontiguousarray(value.const_value.numpy()) for value in large}
    # Weights are handed over as inputs: writing them into the model would take longer than running it.
    for value in large:
        graph.initializers.pop(str(value.name))
    graph.inputs.extend(large)
    placed.model.ir_version = max(placed.model.ir_version or 0, IR_VERSION)
    try:
        session = _session(ir.to_proto(placed.model).SerializeToString())
    finally:
        for value in large:
            graph.inputs.remove(value)
            graph.initializers.add(value)
    names = [str(value.name) for value in graph.inputs]
    rows = [session.run(None, dict(zip(names, given, strict=True)) | fed) for given in inputs]
    return [list(column) for column in zip(*rows, strict=True)]


def run_file(path: Path, inputs: Sequence[Batch]) -> list[Batch]:
    """Run an ONNX file; pictures are given channels first, and turned for a file that takes its channels last."""
    session = _session(str(path))
    declared = [(value.name, value.shape) for value in session.get_inputs()]
    rows = [
        session.run(None, {name: _laid_out(array, shape) for (name, shape), array in zip(declared, given, strict=True)})
        for given in inputs
    ]
    return [list(column) for column in zip(*rows, strict=True)]


def _session(model: str | bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # The operators as they stand: the runtime's own rewriting is not what is examined.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # failures are raised
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _laid_out(array: Array, declared: Sequence[Any]) -> Array:
    if array.ndim == _PICTURE_RANK and tuple(declared[1:]) != array.shape[1:]:
        turned = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
        return turned if tuple(declared[1:]) == turned.shape[1:] else array
    return array


def relative_error(found: Batch, reference: Batch) -> float:
    """Root of the mean squared difference over that of the reference, all inputs together; 0 for equal zeros.

    Infinite where the sizes differ, or where one side is not finite and the other is not the same. Shapes may differ.
    """
    difference = scale = 0.0
    for here, there in zip(found, reference, strict=True):
        if here.size != there.size:
            return float("inf")
        left, right = (np.asarray(side, dtype=np.float64).reshape(-1) for side in (here, there))
        equal = (left == right) | (np.isnan(left) & np.isnan(right))
        with np.errstate(all="ignore"):
            difference += float(np.sum(np.where(equal, 0.0, left - right) ** 2))
            scale += float(np.sum(np.where(np.isfinite(right), right, 0.0) ** 2))
    if difference == 0.0:
        return 0.0
    found_error = float(np.sqrt(difference / scale)) if scale else float("inf")
    return found_error if np.isfinite(found_error) else float("inf")


def _widened(array: Array) -> Any:
    return np.float64 if np.issubdtype(array.dtype, np.floating) else array.dtype
