"""Element-wise arithmetic: one spelling for differences, quotients, squares, means and repeated operands."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from workers.engine.graph.passes import rewriting as rw
from workers.engine.graph.passes.layout import BINARY

if TYPE_CHECKING:
    import onnx_ir as ir

_CLOSE = 1e-5
"""Relative closeness of a written factor to one over a number of elements."""


def negative_terms(model: ir.Model) -> int:
    """Write a difference to a constant or a negative as a sum, and a sum with a negative as a difference.

    Runs after counting: a vector that is subtracted counts as a statistic (see ``count``).
    """
    changed = 0
    for node in rw.nodes(model, "Sub", "Add"):
        left, right = node.inputs[:2]
        shape, positive = rw.shape_of(node.outputs[0]), _negated(right)
        if node.op_type == "Sub" and right is not None and rw.is_constant(right) and not rw.is_constant(left):
            op, inputs = "Add", [left, _negative(node, right)]
        elif node.op_type == "Sub" and positive is not None:
            op, inputs = "Add", [left, positive]
        elif node.op_type == "Add" and positive is not None:
            op, inputs = "Sub", [left, positive]
        elif node.op_type == "Add" and (other := _negated(left)) is not None:
            op, inputs = "Sub", [right, other]
        else:
            continue
        rw.replace(node.outputs[0], rw.new_node(node, op, inputs, shape=shape, merged=[node]))
        changed += 1
    return changed


def _negated(value: ir.Value | None) -> ir.Value | None:
    """Return what a value is the negative of, when nothing else reads it."""
    node = rw.producer(value, "Neg", "Mul")
    if node is None or value is None or rw.only_user(value) is None:
        return None
    if node.op_type == "Neg":
        return node.inputs[0]
    for data, sign in (node.inputs, tuple(reversed(node.inputs))):
        if rw.scalar(sign) == -1.0 and rw.shape_of(data) == rw.shape_of(value):
            return data
    return None


def _negative(node: ir.Node, value: ir.Value) -> ir.Value:
    assert node.graph is not None  # noqa: S101  (passes walk a graph's own nodes)
    dtype = value.dtype or node.outputs[0].dtype
    assert dtype is not None  # noqa: S101  (a constant has a type)
    name = value.name or "constant"
    if rw.scalar(value) is not None:
        return rw.add_constant(node.graph, -rw.numpy_of(value), name)
    return rw.add_lazy(node.graph, lambda: -rw.numpy_of(value), rw.shape_of(value) or (), dtype, name)


def reciprocal_factor(model: ir.Model) -> int:
    """Write a product with a computed reciprocal as a division."""
    changed = 0
    for node in rw.nodes(model, "Mul"):
        for data, inverse in (node.inputs, tuple(reversed(node.inputs))):
            found = rw.producer(inverse, "Reciprocal")
            if found is None or inverse is None or rw.only_user(inverse) is None or rw.is_constant(data):
                continue
            shape = rw.shape_of(node.outputs[0])
            quotient = rw.new_node(node, "Div", [data, found.inputs[0]], shape=shape, merged=[node])
            rw.replace(node.outputs[0], quotient)
            changed += 1
            break
    return changed


def square(model: ir.Model) -> int:
    """Write a second power as a product with itself."""
    changed = 0
    for node in rw.nodes(model, "Pow"):
        shape = rw.shape_of(node.outputs[0])
        if rw.scalar(node.inputs[1]) != 2.0 or shape != rw.shape_of(node.inputs[0]):  # noqa: PLR2004  (a square)
            continue
        product = rw.new_node(node, "Mul", [node.inputs[0], node.inputs[0]], shape=shape, merged=[node])
        rw.replace(node.outputs[0], product)
        changed += 1
    return changed


def mean_of_sum(model: ir.Model) -> int:
    """Write a sum over axes that is divided by the number of its terms as a mean."""
    changed = 0
    for node in rw.nodes(model, "Div", "Mul"):
        total = rw.producer(node.inputs[0], "ReduceSum")
        factor, shape = rw.scalar(node.inputs[1]), rw.shape_of(node.outputs[0])
        before, after = (rw.shape_of(total.inputs[0]), rw.shape_of(total.outputs[0])) if total else (None, None)
        if total is None or not factor or before is None or shape is None or shape != after:
            continue
        number = factor if node.op_type == "Div" else 1 / factor
        if not math.isclose(math.prod(before) / math.prod(shape), number, rel_tol=_CLOSE):
            continue
        kept = {"keepdims": rw.attribute(total, "keepdims", 1)}
        mean = rw.new_node(node, "ReduceMean", list(total.inputs), kept, shape=shape, merged=[total, node])
        rw.replace(node.outputs[0], mean)
        changed += 1
    return changed


def broadcast_operand(model: ir.Model) -> int:
    """Let an element-wise operator read what it would broadcast itself, in place of the repeated value."""
    changed = 0
    for node in rw.nodes(model, "Expand", "Tile"):
        source, output = node.inputs[0], node.outputs[0]
        before, after = rw.shape_of(source), rw.shape_of(output)
        if before is None or after is None or rw.is_constant(source) or not _repeats_ones(before, after):
            continue
        for use in tuple(output.uses()):
            others = [rw.shape_of(value) for value in use.node.inputs if value is not output]
            shape = rw.shape_of(use.node.outputs[0])
            if use.node.op_type not in BINARY or shape is None or any(other is None for other in others):
                continue
            if np.broadcast_shapes(before, *(other for other in others if other is not None)) == shape:
                use.node.replace_input_with(use.idx, source)
                changed += 1
    return changed


def _repeats_ones(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether only axes of size 1 grew, as broadcasting lets them."""
    if len(before) > len(after):
        return False
    aligned = (1,) * (len(after) - len(before)) + before
    return all(old in (1, new) for old, new in zip(aligned, after, strict=True))
