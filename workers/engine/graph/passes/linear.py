"""Products and their biases: one spelling for Conv + Add, MatMul + Add, Gemm and 1x1-convolution heads."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from workers.engine.graph.passes import rewriting as rw
from workers.engine.graph.passes.batch_norm import per_channel

_HEAD_FOLLOWERS = ("Conv", "Gemm", "Reshape", "Flatten", "Squeeze", "Softmax", "LogSoftmax", "Relu", "Sigmoid", "Tanh",
                   "HardSwish", "Gelu", "LeakyRelu", "Clip")  # fmt: skip
"""What a convolutional head consists of; a squeeze-and-excitation gate ends in a Mul and is none."""


def drop_export_bias(model: ir.Model) -> int:
    """Drop a convolution's bias that the exporter made by expanding a literal 0: nobody published it."""
    changed = 0
    for node in rw.nodes(model, "Conv"):
        if len(node.inputs) == 3 and _expanded_zero(node.inputs[2]):  # noqa: PLR2004  (data, weight, bias)
            node.replace_input_with(2, None)
            node.resize_inputs(2)
            changed += 1
    return changed


def _expanded_zero(value: ir.Value | None) -> bool:
    expand = rw.producer(value, "Expand")
    source = expand.inputs[0] if expand is not None else None
    cast = rw.producer(source, "CastLike", "Cast")
    return rw.scalar(cast.inputs[0] if cast is not None else source) == 0


def bias_into_conv(model: ir.Model) -> int:
    """Merge a per-channel constant Add after a convolution without bias into its bias."""
    changed = 0
    for node in rw.nodes(model, "Conv", "ConvTranspose"):
        user = rw.only_user(node.outputs[0])
        shape = rw.shape_of(node.outputs[0])
        if user is None or user.op_type != "Add" or shape is None or _has_bias(node):
            continue
        other = user.inputs[1] if user.inputs[0] is node.outputs[0] else user.inputs[0]
        if not per_channel(other, shape[1], len(shape)) or node.graph is None or other is None:
            continue
        bias = _vector(node.graph, other, shape[1])
        inputs = [*node.inputs[:2], bias]
        output = rw.new_node(user, node.op_type, inputs, dict(node.attributes), shape=shape, merged=[node, user])
        rw.replace(user.outputs[0], output)
        changed += 1
    return changed


def _has_bias(node: ir.Node) -> bool:
    return len(node.inputs) > 2 and node.inputs[2] is not None  # noqa: PLR2004  (data, weight, bias)


def _vector(graph: ir.Graph, value: ir.Value, size: int) -> ir.Value:
    dtype = value.dtype or ir.DataType.FLOAT
    return rw.add_lazy(graph, lambda: rw.numpy_of(value), (size,), dtype, value.name or "bias")


def matmul_to_gemm(model: ir.Model) -> int:
    """Write a rank-2 product with a constant matrix, and the Add after it, as Gemm with ``transB=1``."""
    changed = 0
    for node in rw.nodes(model, "MatMul"):
        shape, weight = rw.shape_of(node.outputs[0]), node.inputs[1]
        weight_shape = rw.shape_of(weight)
        if shape is None or len(shape) != 2 or not rw.is_constant(weight) or weight_shape is None:  # noqa: PLR2004
            continue
        if weight is None or node.graph is None or len(weight_shape) != 2:  # noqa: PLR2004
            continue
        inputs: list[ir.Value | None] = [node.inputs[0], _transposed(node.graph, weight)]
        last, merged = node, [node]
        user = rw.only_user(node.outputs[0])
        if user is not None and user.op_type == "Add":
            other = user.inputs[1] if user.inputs[0] is node.outputs[0] else user.inputs[0]
            if per_channel(other, shape[1], 2) and other is not None:
                inputs.append(_vector(node.graph, other, shape[1]))
                last, merged = user, [node, user]
        rw.replace(last.outputs[0], rw.new_node(last, "Gemm", inputs, {"transB": 1}, shape=shape, merged=merged))
        changed += 1
    return changed


def gemm_on_tokens(model: ir.Model) -> int:
    """Write a Gemm between views to one axis of tokens and back as MatMul and Add on the tokens themselves."""
    changed = 0
    for node in rw.nodes(model, "Gemm"):
        view, user = rw.producer(node.inputs[0], "Reshape", "Flatten"), rw.only_user(node.outputs[0])
        weight, tokens = node.inputs[1], rw.shape_of(node.inputs[0])
        shape = rw.shape_of(user.outputs[0]) if user is not None and user.op_type == "Reshape" else None
        if view is None or user is None or shape is None or weight is None or node.graph is None or tokens is None:
            continue
        if len(shape) < 3 or shape[-1] != (rw.shape_of(weight) or (0,))[0] or tokens[0] == 1:  # noqa: PLR2004
            continue
        if not rw.is_constant(weight) or set(node.attributes) != {"transB"}:
            continue
        target = rw.add_constant(node.graph, np.asarray((*shape[:-1], tokens[1]), np.int64), "shape")
        value = rw.new_node(node, "Reshape", [view.inputs[0], target], shape=(*shape[:-1], tokens[1]))
        inputs = [value, _transposed(node.graph, weight)]
        value = rw.new_node(node, "MatMul", inputs, shape=shape, merged=[node])
        if _has_bias(node):
            value = rw.new_node(node, "Add", [value, node.inputs[2]], shape=shape, merged=[user])
        rw.replace(user.outputs[0], value)
        changed += 1
    return changed


def _transposed(graph: ir.Graph, weight: ir.Value) -> ir.Value:
    rows, columns = rw.shape_of(weight) or (0, 0)
    dtype = weight.dtype or ir.DataType.FLOAT
    return rw.add_lazy(graph, lambda: rw.numpy_of(weight).T, (columns, rows), dtype, weight.name or "weight")


def normalise_gemm(model: ir.Model) -> int:
    """Give every Gemm with constant weights ``transB=1``, ``transA=0``, ``alpha=beta=1`` and a vector bias."""
    changed = 0
    for node in rw.nodes(model, "Gemm"):
        weight = node.inputs[1]
        bias = node.inputs[2] if len(node.inputs) > 2 else None  # noqa: PLR2004
        factors = {key: float(rw.attribute(node, key, 1.0)) for key in ("alpha", "beta")}
        if rw.attribute(node, "transA", 0) or weight is None or not rw.is_constant(weight) or node.graph is None:
            continue
        if bias is not None and not rw.is_constant(bias):
            continue
        turned = bool(rw.attribute(node, "transB", 0))
        scaled = any(factor != 1.0 for factor in factors.values())
        bare = set(node.attributes) == {"transB"}
        if turned and bare and (bias is None or len(rw.shape_of(bias) or ()) == 1):
            continue
        if not turned:
            weight = _transposed(node.graph, weight)
        shape = rw.shape_of(weight) or (0, 0)
        inputs: list[ir.Value | None] = [node.inputs[0], weight]
        if bias is not None:
            inputs.append(_spread(node.graph, bias, shape[0]))
        if scaled:
            inputs[1:] = [
                _scaled(node.graph, value, factor)
                for value, factor in zip(inputs[1:], (factors["alpha"], factors["beta"]), strict=False)
                if value is not None
            ]
        output = rw.new_node(node, "Gemm", inputs, {"transB": 1}, shape=rw.shape_of(node.outputs[0]), merged=[node])
        rw.replace(node.outputs[0], output)
        changed += 1
    return changed


def _spread(graph: ir.Graph, bias: ir.Value, size: int) -> ir.Value:
    if rw.shape_of(bias) == (size,):
        return bias
    dtype = bias.dtype or ir.DataType.FLOAT
    return rw.add_lazy(
        graph, lambda: np.broadcast_to(rw.numpy_of(bias), (1, size)), (size,), dtype, bias.name or "bias"
    )


def _scaled(graph: ir.Graph, value: ir.Value, factor: float) -> ir.Value:
    dtype = value.dtype or ir.DataType.FLOAT
    return rw.add_lazy(
        graph, lambda: rw.numpy_of(value) * factor, rw.shape_of(value) or (), dtype, value.name or "weight"
    )


def conv_head_to_gemm(model: ir.Model) -> int:
    """Write a convolution whose window covers the whole map, in the head, as Flatten, Gemm and a Reshape.

    The head is what leads to the outputs only through products, activations and views (DenseNet's 1x1 classifier, a VGG
    made convolutional). The two spellings agree at this input size only.
    """
    changed = 0
    for node in rw.nodes(model, "Conv"):
        before, after = rw.shape_of(node.inputs[0]), rw.shape_of(node.outputs[0])
        weight = node.inputs[1]
        window = (rw.shape_of(weight) or ())[2:]
        if before is None or after is None or weight is None or not rw.is_constant(weight) or node.graph is None:
            continue
        if any(size != 1 for size in after[2:]) or before[2:] != window or any(rw.attribute(node, "pads", ())):
            continue
        if rw.attribute(node, "group", 1) != 1 or not _reaches_only_outputs(node):
            continue
        width = int(np.prod(before[1:]))
        if any(size > 1 for size in window):
            text = "x".join(map(str, window))
            node.metadata_props.setdefault(rw.SIZED, f"convolves a window of {text}, here the whole map")
        flat = rw.new_node(node, "Flatten", [node.inputs[0]], {"axis": 1}, shape=(before[0], width))
        matrix = _matrix(node.graph, weight, (after[1], width))
        inputs: list[ir.Value | None] = [flat, matrix, *node.inputs[2:3]]
        product = rw.new_node(node, "Gemm", inputs, {"transB": 1}, shape=after[:2], merged=[node])
        target = rw.add_constant(node.graph, np.asarray(after, np.int64), "shape")
        rw.replace(node.outputs[0], rw.new_node(node, "Reshape", [product, target], shape=after))
        changed += 1
    return changed


def _matrix(graph: ir.Graph, weight: ir.Value, shape: tuple[int, int]) -> ir.Value:
    dtype = weight.dtype or ir.DataType.FLOAT
    return rw.add_lazy(graph, lambda: rw.numpy_of(weight), shape, dtype, weight.name or "weight")


def _reaches_only_outputs(node: ir.Node) -> bool:
    pending = [node]
    while pending:
        for user, _ in pending.pop().outputs[0].uses():
            if user.op_type not in _HEAD_FOLLOWERS:
                return False
            pending.append(user)
    return True
