"""Layout: transposes are moved towards the outputs until they meet and cancel; the input becomes channels-first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from workers.engine.graph.passes import rewriting as rw
from workers.engine.graph.passes import slices

if TYPE_CHECKING:
    from collections.abc import Sequence

INPUT_LAYOUT = "zooaudit.input_layout"
"""Metadata of the model: ``nhwc`` when the published input has its channels last."""

UNARY = (
    "Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Selu", "HardSwish", "HardSigmoid", "Gelu", "Erf", "Exp",
    "Sqrt", "Neg", "Abs", "Softplus", "Mish", "Identity", "Dropout", "Cast", "Celu", "Reciprocal", "Log", "Pow",
)  # fmt: skip
BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum")
_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
_IMAGE_CHANNELS = (1, 3, 4)
_IMAGE_RANK = 4


def channels_first_input(model: ir.Model) -> int:
    """Give an NHWC picture input the layout NCHW, with a transpose behind it for the others to move.

    An input is NHWC when its last axis has 1, 3 or 4 elements and its second has more.
    """
    changed = 0
    for value in model.graph.inputs:
        shape = rw.shape_of(value)
        if shape is None or len(shape) != _IMAGE_RANK or not value.uses():
            continue
        if shape[3] not in _IMAGE_CHANNELS or shape[1] <= max(_IMAGE_CHANNELS):
            continue
        readers = tuple(value.uses())
        reading = {use.node for use in readers}
        first = next(node for node in model.graph if node in reading)
        value.shape = ir.Shape([shape[0], shape[3], shape[1], shape[2]])
        turned = rw.new_node(first, "Transpose", [value], {"perm": [0, 2, 3, 1]}, shape=shape)
        for use in readers:
            use.node.replace_input_with(use.idx, turned)
        model.metadata_props[INPUT_LAYOUT] = "nhwc"
        changed += 1
    return changed


def cancel_transposes(model: ir.Model) -> int:
    """Merge a Transpose of a Transpose, and a Transpose of a Reshape when it moves only axes of size 1."""
    changed = 0
    for node in rw.nodes(model, "Transpose"):
        order = _order(node)
        before = rw.producer(node.inputs[0], "Transpose", "Reshape", "Unsqueeze")
        shape = rw.shape_of(node.outputs[0])
        if order is None or before is None or shape is None:
            continue
        if before.op_type == "Transpose":
            inner = _order(before)
            if inner is None:
                continue
            both = [inner[axis] for axis in order]
            source = before.inputs[0]
            if both == sorted(both):
                if node.outputs[0].is_graph_output() or source is None:
                    continue
                rw.replace(node.outputs[0], source)
            else:
                rw.replace(node.outputs[0], rw.new_node(node, "Transpose", [source], {"perm": both}, shape=shape))
            changed += 1
        elif moves_only_ones(order, rw.shape_of(node.inputs[0])):
            target = rw.add_constant(model.graph, np.asarray(shape, np.int64), "shape")
            rw.replace(node.outputs[0], rw.new_node(node, "Reshape", [before.inputs[0], target], shape=shape))
            changed += 1
    return changed


def _order(node: ir.Node) -> tuple[int, ...] | None:
    order = rw.attribute(node, "perm")
    if order is not None:
        return tuple(order)
    shape = rw.shape_of(node.inputs[0])
    return tuple(reversed(range(len(shape)))) if shape is not None else None


def moves_only_ones(order: tuple[int, ...], shape: tuple[int, ...] | None) -> bool:
    """Whether a transposition moves axes of size 1 alone, so that the elements keep their order."""
    if shape is None:
        return False
    kept = [axis for axis in order if shape[axis] != 1]
    return kept == sorted(kept)


def push_transposes(model: ir.Model) -> int:
    """Move transposes behind element-wise operators, concatenations, paddings, means and softmaxes."""
    changed = 0
    for node in list(model.graph):
        if node.domain == "" and len(node.outputs) == 1 and node.graph is not None:
            changed += _push(node)
    return changed


def _push(node: ir.Node) -> int:
    if node.op_type in UNARY:
        return _push_unary(node)
    if node.op_type in (*BINARY, "Concat"):
        return _push_many(node)
    if node.op_type in ("Pad", "Slice", "Softmax", "ReduceMean", "Flatten", "Reshape", "LogSoftmax"):
        return _push_axes(node)
    return 0


def _transpose_of(value: ir.Value | None) -> tuple[ir.Value, tuple[int, ...]] | None:
    node = rw.producer(value, "Transpose")
    order = _order(node) if node is not None else None
    if node is None or order is None or node.inputs[0] is None:
        return None
    return node.inputs[0], order


def _move(
    node: ir.Node, inputs: Sequence[ir.Value | None], order: tuple[int, ...], attributes: dict[str, object]
) -> int:
    """Run the operator before the transpose: same operator on untransposed inputs, then the transpose."""
    shape = rw.shape_of(node.outputs[0])
    if shape is None:
        return 0
    before = [0] * len(order)
    for position, axis in enumerate(order):
        before[axis] = shape[position]
    moved = rw.new_node(node, node.op_type, inputs, attributes, shape=before, merged=[node])
    rw.replace(node.outputs[0], rw.new_node(node, "Transpose", [moved], {"perm": list(order)}, shape=shape))
    return 1


def _push_unary(node: ir.Node) -> int:
    found = _transpose_of(node.inputs[0])
    if found is None:
        return 0
    source, order = found
    return _move(node, [source, *node.inputs[1:]], order, dict(node.attributes))


def _push_many(node: ir.Node) -> int:
    found = [_transpose_of(value) for value in node.inputs]
    orders = {item[1] for item in found if item is not None}
    rank = len(rw.shape_of(node.outputs[0]) or ())
    if len(orders) != 1:
        return 0
    order = orders.pop()
    if len(order) != rank:
        return 0
    # Mixed layouts meet where only some operands are turned; the operator then runs channels first.
    turn = order == _TO_LAST and all(rw.shape_of(value) == rw.shape_of(node.outputs[0]) for value in node.inputs)
    inputs: list[ir.Value | None] = []
    for value, item in zip(node.inputs, found, strict=True):
        if item is not None:
            inputs.append(item[0])
        elif turn and node.op_type != "Concat" and value is not None and not rw.is_constant(value):
            before = [(rw.shape_of(value) or ())[axis] for axis in _TO_FIRST]
            inputs.append(rw.new_node(node, "Transpose", [value], {"perm": list(_TO_FIRST)}, shape=before))
        elif node.op_type != "Concat" and value is not None and rw.is_constant(value):
            inputs.append(_turn_constant(node, value, order))
        else:
            return 0
    attributes: dict[str, object] = dict(node.attributes)
    if node.op_type == "Concat":
        attributes["axis"] = order[rw.attribute(node, "axis") % rank]
    return _move(node, inputs, order, attributes)


def _turn_constant(node: ir.Node, value: ir.Value, order: tuple[int, ...]) -> ir.Value:
    """A constant operand as it must be before the transpose, padded with leading axes of size 1."""
    shape = rw.shape_of(value) or ()
    if value.const_value is None or value.const_value.size == 1 or node.graph is None:
        return value
    aligned = (1,) * (len(order) - len(shape)) + shape
    back = np.argsort(order)
    turned = tuple(aligned[axis] for axis in back)
    return rw.add_lazy(
        node.graph,
        lambda: np.transpose(rw.numpy_of(value).reshape(aligned), back),
        turned,
        value.dtype or ir.DataType.FLOAT,
        value.name or "constant",
    )


def _push_axes(node: ir.Node) -> int:
    found = _transpose_of(node.inputs[0])
    if found is None:
        return 0
    source, order = found
    if node.op_type == "Pad":
        return _push_pad(node, source, order)
    if node.op_type == "Slice":
        return _push_slice(node, source, order)
    if node.op_type in ("Softmax", "LogSoftmax"):
        axis = order[rw.attribute(node, "axis", -1) % len(order)]
        return _move(node, [source], order, {"axis": axis})
    if node.op_type == "ReduceMean":
        return _push_mean(node, source, order)
    return _push_flatten(node, source, order)


def _push_pad(node: ir.Node, source: ir.Value, order: tuple[int, ...]) -> int:
    pads = rw.constant(node.inputs[1])
    if pads is None or node.graph is None or len(node.inputs) > 3:  # noqa: PLR2004  (an axes input stays as it is)
        return 0
    moved = np.zeros((2, len(order)), np.int64)
    for position, axis in enumerate(order):
        moved[:, axis] = pads.reshape(2, -1)[:, position]
    inputs = [source, rw.add_constant(node.graph, moved.reshape(-1), "pads"), *node.inputs[2:]]
    return _move(node, inputs, order, dict(node.attributes))


def _push_slice(node: ir.Node, source: ir.Value, order: tuple[int, ...]) -> int:
    # Layouts of pictures only: in attention, slices of turned views tell queries from keys (``views.one_view_chain``).
    found = slices.parse(node) if order in {_TO_FIRST, _TO_LAST} else None
    if found is None or node.graph is None:
        return 0
    bounds = sorted((order[axis], bound) for axis, bound in found.bounds.items())
    columns = [[axis for axis, _ in bounds], *([bound[place] for _, bound in bounds] for place in range(3))]
    axes, starts, ends, steps = (np.asarray(column, np.int64) for column in columns)
    named = (("starts", starts), ("ends", ends), ("axes", axes), ("steps", steps))
    return _move(node, [source, *(rw.add_constant(node.graph, array, name) for name, array in named)], order, {})


def _push_mean(node: ir.Node, source: ir.Value, order: tuple[int, ...]) -> int:
    axes = rw.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    shape = rw.shape_of(node.outputs[0])
    if axes is None or node.graph is None or shape is None:
        return 0
    rank = len(order)
    reduced = sorted(order[int(axis) % rank] for axis in axes.reshape(-1))
    moved_axes = rw.add_constant(node.graph, np.asarray(reduced, np.int64), "axes")
    if rw.attribute(node, "keepdims", 1):
        return _move(node, [source, moved_axes], order, {"keepdims": 1})
    kept = [axis for axis in order if axis not in reduced]
    if kept != sorted(kept):
        return 0
    moved = rw.new_node(node, "ReduceMean", [source, moved_axes], {"keepdims": 0}, shape=shape, merged=[node])
    rw.replace(node.outputs[0], moved)
    return 1


def _push_flatten(node: ir.Node, source: ir.Value, order: tuple[int, ...]) -> int:
    """Flatten NHWC before a Gemm: flatten NCHW instead and reorder the columns of the Gemm's weight."""
    before, after = rw.shape_of(node.inputs[0]), rw.shape_of(node.outputs[0])
    gemm = rw.only_user(node.outputs[0])
    if before is None or after is None or len(after) != 2 or after[0] != before[0] or order[0] != 0:  # noqa: PLR2004
        return 0
    if moves_only_ones(order, rw.shape_of(source)):
        rw.replace(node.outputs[0], rw.new_node(node, "Flatten", [source], {"axis": 1}, shape=after, merged=[node]))
        return 1
    if gemm is None or gemm.op_type != "Gemm" or not rw.attribute(gemm, "transB", 0) or gemm.inputs[1] is None:
        return 0
    weight, features = gemm.inputs[1], before[1:]
    weight_shape = rw.shape_of(weight)
    if weight_shape is None or not rw.is_constant(weight) or node.graph is None:
        return 0
    back = [0, *(1 + int(axis) for axis in np.argsort([axis - 1 for axis in order[1:]]))]
    reordered = rw.add_lazy(
        node.graph,
        lambda: np.transpose(rw.numpy_of(weight).reshape(weight_shape[0], *features), back),
        weight_shape,
        weight.dtype or ir.DataType.FLOAT,
        weight.name or "weight",
    )
    flat = rw.new_node(node, "Flatten", [source], {"axis": 1}, shape=after, merged=[node])
    gemm.replace_input_with(0, flat)
    gemm.replace_input_with(1, reordered)
    return 1
