"""What does nothing in inference mode: Identity, Dropout, casts and reshapes to what already is, empty padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workers.engine.graph.passes import rewriting as rw

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx_ir as ir


def remove_no_ops(model: ir.Model) -> int:
    """Remove every node whose first output always equals its first input."""
    changed = 0
    for node in rw.nodes(model, *_NO_OP):
        source = node.inputs[0]
        if source is None or not _NO_OP[node.op_type](node) or _other_outputs_used(node):
            continue
        if node.outputs[0].is_graph_output() and (source.is_graph_input() or rw.is_constant(source)):
            continue  # an output must have a node of its own
        if node.outputs[0].is_graph_output() and source.is_graph_output():
            continue
        kept = source.producer()
        if kept is not None:
            rw.absorb(kept, node)
        rw.replace(node.outputs[0], source)
        changed += 1
    return changed


def sum_to_add(model: ir.Model) -> int:
    """Write a Sum of n values as a chain of n - 1 Adds."""
    changed = 0
    for node in rw.nodes(model, "Sum"):
        total = node.inputs[0]
        shape = rw.shape_of(node.outputs[0])
        if shape is None or any(rw.shape_of(value) != shape for value in node.inputs):
            continue
        for value in node.inputs[1:]:
            total = rw.new_node(node, "Add", [total, value], shape=shape, merged=[node])
        if total is not None and len(node.inputs) > 1:
            rw.replace(node.outputs[0], total)
            changed += 1
    return changed


def _other_outputs_used(node: ir.Node) -> bool:
    return any(output.uses() or output.is_graph_output() for output in node.outputs[1:])


def _dropout(node: ir.Node) -> bool:
    training = node.inputs[2] if len(node.inputs) > 2 else None  # noqa: PLR2004  (data, ratio, training_mode)
    return training is None or rw.scalar(training) == 0


def _same_type(node: ir.Node) -> bool:
    source = node.inputs[0]
    return source is not None and source.dtype is not None and source.dtype == node.outputs[0].dtype


def _same_shape(node: ir.Node) -> bool:
    shape = rw.shape_of(node.inputs[0])
    return shape is not None and shape == rw.shape_of(node.outputs[0])


def _ordered_transpose(node: ir.Node) -> bool:
    order = rw.attribute(node, "perm")
    return order is not None and list(order) == sorted(order)


def _no_padding(node: ir.Node) -> bool:
    pads = rw.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return pads is not None and not np.any(pads)


def _pointwise_pool(node: ir.Node) -> bool:
    """A pool with a 1x1 window and stride 1, as adaptive pools become where the size already fits."""
    ones = all(
        size == 1 for size in (*rw.attribute(node, "kernel_shape", (0,)), *rw.attribute(node, "strides", (1, 1)))
    )
    return ones and not any(rw.attribute(node, "pads", ())) and _same_shape(node)


def _neutral(element: float) -> Callable[[ir.Node], bool]:
    """Arithmetic whose second operand is its neutral element: adding 0, multiplying by 1."""
    return lambda node: rw.scalar(node.inputs[1]) == element and _same_shape(node)


_NO_OP: dict[str, Callable[[ir.Node], bool]] = {
    "Identity": lambda _: True,
    "Dropout": _dropout,
    "Cast": _same_type,
    "CastLike": _same_type,
    "Reshape": _same_shape,
    "Flatten": _same_shape,
    "Squeeze": _same_shape,
    "Unsqueeze": _same_shape,
    "Expand": _same_shape,
    "Transpose": _ordered_transpose,
    "Pad": _no_padding,
    "AveragePool": _pointwise_pool,
    "MaxPool": _pointwise_pool,
    "GlobalAveragePool": _same_shape,
    "Add": _neutral(0.0),
    "Mul": _neutral(1.0),
    "Sub": _neutral(0.0),
    "Div": _neutral(1.0),
    "Concat": lambda node: len(node.inputs) == 1,
    "Sum": lambda node: len(node.inputs) == 1,
}
