"""Moving the weights of one canonical model into another, node pair by node pair.

Both models are in canonical form (batch-norm folded, channels first, one spelling of every product), so that a pair's
weights differ in their elements alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from workers.engine.graph import canonical
from workers.engine.graph.extract import extract_placed
from workers.engine.graph.passes import rewriting as rw
from workers.engine.protocol import SubjectError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workers.engine.graph.align import Alignment
    from workers.engine.graph.canonical import CanonicalGraph

Array = np.ndarray[Any, Any]
Weights = dict[tuple[int, int], "Callable[[], Array]"]
"""By (id() of the reading node, index of its input): how to compute that weight, in float64."""

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class Placed:
    """A canonical, runnable model beside its plain graph; ``items[i]`` is what ``graph.nodes[i]`` stands for."""

    model: ir.Model
    graph: CanonicalGraph
    items: tuple[ir.Node | ir.Value, ...]

    def node(self, index: int) -> ir.Node | None:
        """Return the operator of a node id; None for a graph input, or for a node that is no longer in the model."""
        item = self.items[index]
        return item if isinstance(item, ir.Node) and item.graph is not None else None


def place(path: Path) -> Placed:
    """Read an ONNX file into its canonical model and graph; raises SubjectError as ``canonical.canonicalise``."""
    model, batch = canonical.canonical_model(path)
    return Placed(model, *extract_placed(model, batch))


def transplant(a_model: Placed, b_model: Placed, alignment: Alignment) -> Weights:
    """Give every aligned node of B the weights of its partner in A; B's model is changed in place.

    Weights that a batch-norm was folded into are folded again with B's own epsilon, so that a difference in epsilon
    stays one. Where the classifiers differ by one class, the first class is background: B keeps its own, or takes A's
    rows without the first. One-element constants are attributes of the architecture and stay B's own. Nodes without a
    partner keep what they have. Returns the same weights in float64. Raises SubjectError when a pair's weights cannot
    stand for each other, which a structural difference would have said.
    """
    moved: Weights = {}
    for left, right in alignment.pairs:
        source, target = a_model.node(left), b_model.node(right)
        if source is None or target is None or source.op_type != target.op_type:
            continue
        epsilon = _epsilon(source, target)
        for here, there in zip(weight_inputs(source), weight_inputs(target), strict=False):
            moved[id(target), there] = _mover(source, here, target, there, epsilon)
    _write(b_model, moved)
    return moved


def weight_inputs(node: ir.Node) -> list[int]:
    """Indices of the inputs that hold weights: floating-point constants, of one element in products and norms alone."""
    always = node.op_type in (*_PRODUCTS, "BatchNormalization")
    return [
        index
        for index, value in enumerate(node.inputs)
        if value is not None
        and value.const_value is not None
        and value.dtype is not None
        and value.dtype.is_floating_point()
        and (always or value.const_value.size > 1)
    ]


def wide(node: ir.Node, index: int, epsilon: float | None = None) -> Array:
    """Return a constant input, floating-point ones in float64; what a batch-norm went into is folded with ``epsilon``.

    Without an epsilon the model's own is used.
    """
    value = node.inputs[index]
    assert value is not None  # noqa: S101  (callers hold the index of a constant)
    refold = node.meta.get(rw.REFOLD) if node.op_type in _PRODUCTS else None
    if refold is not None and index in (1, 2):
        own = float(node.metadata_props[rw.EPSILON])
        return np.asarray(refold(own if epsilon is None else epsilon)[index - 1]).reshape(rw.shape_of(value) or ())
    found = rw.numpy_of(value)
    return found.astype(np.float64) if value.dtype is not None and value.dtype.is_floating_point() else found


def _epsilon(source: ir.Node, target: ir.Node) -> float | None:
    """Return B's epsilon where both sides have a folded batch-norm, else None: A's own stands."""
    found = [node.metadata_props.get(rw.EPSILON) for node in (source, target)]
    if None in found or float(found[0] or 0) == float(found[1] or 0):
        return None
    if rw.REFOLD not in source.meta:
        raise SubjectError("no-refold", f"the batch-norm folded into {_name(source)} cannot be folded anew.")
    return float(found[1] or 0)


def _mover(source: ir.Node, here: int, target: ir.Node, there: int, epsilon: float | None) -> Callable[[], Array]:
    shapes = [rw.shape_of(node.inputs[index]) or () for node, index in ((source, here), (target, there))]
    if np.prod(shapes[0]) == np.prod(shapes[1]):
        return lambda: wide(source, here, epsilon).reshape(shapes[1])
    rows = [shape[0] if shape else 0 for shape in shapes]
    if source.op_type != "Gemm" or abs(rows[0] - rows[1]) != 1 or shapes[0][1:] != shapes[1][1:]:
        raise SubjectError(
            "weights-differ", f"{_name(source)} has weights of shape {shapes[0]}, {_name(target)} of {shapes[1]}."
        )
    if rows[0] > rows[1]:
        return lambda: wide(source, here, epsilon)[1:]
    background = wide(target, there)[:1]  # before B's own weights are replaced
    return lambda: np.concatenate([background, wide(source, here, epsilon)])


def _write(b_model: Placed, moved: Weights) -> None:
    """Make B read the moved weights, rounded to the type of its own."""
    for item in b_model.items:
        if not isinstance(item, ir.Node) or item.graph is None:
            continue
        for index, value in enumerate(item.inputs):
            compute = moved.get((id(item), index))
            if compute is None or value is None:
                continue
            shape, dtype = rw.shape_of(value) or (), value.dtype or ir.DataType.FLOAT
            item.replace_input_with(index, rw.add_lazy(item.graph, compute, shape, dtype, value.name or "weight"))


def _name(node: ir.Node) -> str:
    return f"{node.metadata_props.get(rw.SOURCE, node.op_type)} ({node.op_type})"
