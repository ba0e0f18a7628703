"""Weights behind a change fitted to the channel numbers that it made."""

from __future__ import annotations

import math

import onnx

from architecture.draft import Draft, attribute, set_attribute


def repaired(draft: Draft, rounds: int = 40) -> onnx.ModelProto | None:
    """Fit later weights to changed channel numbers; None when the change cannot stand alone.

    A residual sum of unequal shapes, for example, would need a second change.
    """
    proto = draft.proto
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    for _ in range(rounds):
        del proto.graph.value_info[:]
        shapes: dict[str, tuple[int, ...]] = {}
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
            shapes[value.name] = tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
        if not any(_fit(draft, node, shapes) for node in draft.nodes):
            break
    try:
        return onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return None


def _fit(draft: Draft, node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Fit one node's weights to the shape of what it reads; whether anything had to change."""
    shape = shapes.get(node.input[0], ()) if node.input else ()
    if 0 in shape or len(shape) < 2:
        return False
    if node.op_type == "Conv":
        return _fit_conv(draft, node, shape[1])
    if node.op_type == "BatchNormalization" and draft.shape(node.input[1]) != (shape[1],):
        for index in range(1, 5):
            node.input[index] = draft.weight((shape[1],))
        return True
    if node.op_type == "Gemm" and attribute(node, "transB", 0) and draft.shape(node.input[1])[1] != shape[1]:
        node.input[1] = draft.weight((draft.shape(node.input[1])[0], shape[1]))
        return True
    target = draft.array(node.input[1]) if node.op_type == "Reshape" else None
    size = math.prod(shape)
    if target is not None and len(target) == 2 and target[0] == 1 and target[1] not in (-1, size):
        node.input[1] = draft.constant([1, size], "int64")
        return True
    return False


def _fit_conv(draft: Draft, node: onnx.NodeProto, channels: int) -> bool:
    dims, group = draft.shape(node.input[1]), attribute(node, "group", 1)
    before = dims[1] * group
    if before == channels:
        return False
    if group == before == dims[0] and group > 1:  # depthwise: its own filters follow
        set_attribute(node, "group", channels)
        node.input[1] = draft.weight((channels, *dims[1:]))
        if len(node.input) > 2:
            node.input[2] = draft.weight((channels,))
        return True
    if channels % group:
        return False
    node.input[1] = draft.weight((dims[0], channels // group, *dims[2:]))
    return True
