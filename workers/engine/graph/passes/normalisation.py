"""Layer normalisation written out, and factors: one spelling for both.

``y = g (x - mean) / sqrt(mean((x - mean)^2) + e) + b`` with both means over one axis (Ba et al., arXiv 1607.06450).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from workers.engine.graph.passes import rewriting as rw

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class _Norm:
    """A layer normalisation found: its input, the axis, the epsilon, and the node that divides."""

    source: ir.Value
    axis: int
    epsilon: float
    last: ir.Node
    gamma: ir.Value | None = None
    beta: ir.Value | None = None


def layer_norm(model: ir.Model) -> int:
    """Write a layer normalisation of single steps as LayerNormalization, between transposes if the axis is not last."""
    changed = 0
    for root in rw.nodes(model, "Sqrt"):
        found = _match(root)
        if found is not None:
            _affine(found)
            _emit(model.graph, found)
            changed += 1
    return changed


def _match(root: ir.Node) -> _Norm | None:
    total = rw.producer(root.inputs[0], "Add")
    divide = _divider(root)
    if total is None or divide is None:
        return None
    for variance, constant in (total.inputs, tuple(reversed(total.inputs))):
        centred, epsilon = _centred_square(variance), rw.scalar(constant)
        subtract = rw.producer(centred, "Sub")
        mean = rw.producer(subtract.inputs[1], "ReduceMean") if subtract is not None else None
        spread = rw.producer(variance, "ReduceMean")
        if mean is None or spread is None or subtract is None or epsilon is None or centred not in divide.inputs:
            continue
        axis, source = _axis(mean), subtract.inputs[0]
        if axis is not None and axis == _axis(spread) and source is not None and mean.inputs[0] is source:
            return _Norm(source, axis, epsilon, divide)
    return None


def _divider(root: ir.Node) -> ir.Node | None:
    """Return the node that divides by the root, or multiplies by its reciprocal."""
    user = rw.only_user(root.outputs[0])
    if user is None:
        return None
    inverse = user.op_type == "Reciprocal" or (user.op_type == "Div" and rw.scalar(user.inputs[0]) == 1.0)
    if inverse:
        product = rw.only_user(user.outputs[0])
        return product if product is not None and product.op_type == "Mul" else None
    return user if user.op_type == "Div" and user.inputs[1] is root.outputs[0] else None


def _centred_square(variance: ir.Value | None) -> ir.Value | None:
    """Return the value whose square's mean this is."""
    mean = rw.producer(variance, "ReduceMean")
    square = rw.producer(mean.inputs[0], "Pow", "Mul") if mean is not None else None
    if square is None:
        return None
    if square.op_type == "Pow":
        return square.inputs[0] if rw.scalar(square.inputs[1]) == 2.0 else None  # noqa: PLR2004  (a square)
    return square.inputs[0] if square.inputs[0] is square.inputs[1] else None


def _axis(mean: ir.Node) -> int | None:
    axes = rw.constant(mean.inputs[1]) if len(mean.inputs) > 1 else None
    shape = rw.shape_of(mean.inputs[0])
    if axes is None or axes.size != 1 or shape is None or not rw.attribute(mean, "keepdims", 1):
        return None
    return int(axes.reshape(())) % len(shape)


def _affine(found: _Norm) -> None:
    """Take in the scale and the shift that follow, where they vary along the axis alone."""
    for op, name in (("Mul", "gamma"), ("Add", "beta")):
        user = rw.only_user(found.last.outputs[0])
        if user is None or user.op_type != op:
            continue
        value = found.last.outputs[0]
        other = user.inputs[1] if user.inputs[0] is value else user.inputs[0]
        shape, whole = rw.shape_of(other), rw.shape_of(value)
        if other is None or not rw.is_constant(other) or shape is None or whole is None or len(shape) > len(whole):
            continue
        aligned = (1,) * (len(whole) - len(shape)) + shape
        if aligned[found.axis] == whole[found.axis] == int(np.prod(shape)):
            setattr(found, name, other)
            found.last = user


def _emit(graph: ir.Graph, found: _Norm) -> None:
    shape = rw.shape_of(found.last.outputs[0])
    if shape is None:
        return
    size, rank = shape[found.axis], len(shape)
    scale = found.gamma or rw.add_constant(graph, np.ones(size, np.float32), f"{rw.LITERAL}1")
    inputs: list[ir.Value | None] = [
        found.source,
        *(_vector(graph, item, size) for item in (scale, found.beta) if item),
    ]
    to_last = [*(axis for axis in range(rank) if axis != found.axis), found.axis]
    turned = [shape[axis] for axis in to_last]
    moved = found.axis != rank - 1
    if moved:
        inputs[0] = rw.new_node(found.last, "Transpose", [found.source], {"perm": to_last}, shape=turned)
    attributes = {"axis": -1, "epsilon": found.epsilon}
    output = rw.new_node(found.last, "LayerNormalization", inputs, attributes, shape=turned, merged=[found.last])
    if moved:
        output = rw.new_node(found.last, "Transpose", [output], {"perm": np.argsort(to_last).tolist()}, shape=shape)
    rw.replace(found.last.outputs[0], output)


def _vector(graph: ir.Graph, value: ir.Value, size: int) -> ir.Value:
    if rw.shape_of(value) == (size,):
        return value
    dtype = value.dtype or ir.DataType.FLOAT
    return rw.add_lazy(graph, lambda: rw.numpy_of(value), (size,), dtype, value.name or "vector")


def layer_norm_of_vector(model: ir.Model) -> int:
    """Move a layer normalisation of one vector (behind a pool over the whole map) to [batch, channels]."""
    changed = 0
    for node in rw.nodes(model, "LayerNormalization"):
        shape = rw.shape_of(node.outputs[0])
        rank = len(shape or ())
        if shape is None or rank < 3 or shape[-1] * shape[0] != int(np.prod(shape)):  # noqa: PLR2004  (more than that)
            continue
        if rw.attribute(node, "axis", -1) % rank != rank - 1 or len(node.outputs) > 1:
            continue
        flat = (shape[0], shape[-1])
        value = rw.new_node(node, "Flatten", node.inputs[:1], {"axis": 1}, shape=flat)
        attributes = {"axis": -1, "epsilon": rw.attribute(node, "epsilon", 1e-5)}
        inputs = [value, *node.inputs[1:]]
        value = rw.new_node(node, "LayerNormalization", inputs, attributes, shape=flat, merged=[node])
        target = rw.add_constant(model.graph, np.asarray(shape, np.int64), "shape")
        rw.replace(node.outputs[0], rw.new_node(node, "Reshape", [value, target], shape=shape))
        changed += 1
    return changed


def scalar_factors(model: ir.Model) -> int:
    """Write a literal divisor as a factor, factors in a row as one, and factors of a product's operands behind it.

    The scale of attention scores stands on the query, half of it on query and key each, or on the scores.
    """
    changed = 0
    for node in rw.nodes(model, "Div", "Mul", "MatMul"):
        if node.op_type == "Div":
            changed += _divisor(node)
        elif node.op_type == "Mul":
            changed += _factors_in_a_row(node)
        else:
            changed += _factor_of_operand(node)
    return changed


def _literal(value: ir.Value | None) -> float | None:
    """Value of a one-element floating-point constant that broadcasts to anything, else None."""
    if value is None or value.dtype is None or not value.dtype.is_floating_point():
        return None
    return rw.scalar(value)


def _divisor(node: ir.Node) -> int:
    divisor, shape = _literal(node.inputs[1]), rw.shape_of(node.outputs[0])
    if not divisor or shape is None or shape != rw.shape_of(node.inputs[0]) or node.graph is None:
        return 0
    _multiply(node, node.inputs[0], 1.0 / divisor)
    return 1


def _multiply(node: ir.Node, value: ir.Value | None, factor: float, *merged: ir.Node) -> None:
    """Put ``value * factor`` in the place of a node."""
    dtype = node.outputs[0].dtype or ir.DataType.FLOAT
    assert node.graph is not None  # noqa: S101  (passes walk a graph's own nodes)
    constant = rw.add_constant(node.graph, np.asarray(factor, dtype.numpy()), "factor")
    shape = rw.shape_of(node.outputs[0])
    rw.replace(node.outputs[0], rw.new_node(node, "Mul", [value, constant], shape=shape, merged=[node, *merged]))


def _operands(node: ir.Node) -> Iterator[tuple[ir.Value, float]]:
    """(data, literal factor) of a Mul, when it is one."""
    for data, constant in (node.inputs, tuple(reversed(node.inputs))):
        factor = _literal(constant)
        if factor is not None and data is not None and rw.shape_of(data) == rw.shape_of(node.outputs[0]):
            yield data, factor
            return


def _factors_in_a_row(node: ir.Node) -> int:
    for data, factor in _operands(node):
        inner = rw.producer(data, "Mul")
        if inner is None or rw.only_user(data) is not node:
            continue
        for source, other in _operands(inner):
            _multiply(node, source, factor * other, inner)
            return 1
    return 0


def _factor_of_operand(node: ir.Node) -> int:
    if any(rw.is_constant(value) for value in node.inputs):
        return 0
    for index, value in enumerate(node.inputs):
        inner = rw.producer(value, "Mul")
        user = rw.only_user(value) if value is not None else None
        if inner is None or user is None or user is not node:
            continue
        for source, factor in _operands(inner):
            inputs = list(node.inputs)
            inputs[index] = source
            shape = rw.shape_of(node.outputs[0])
            product = rw.new_node(node, "MatMul", inputs, shape=shape, merged=[node])
            _multiply(node, product, factor, inner)
            return 1
    return 0
