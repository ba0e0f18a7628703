"""Batch-norm in inference mode: recognised in every spelling, then folded into the product before it.

With moving mean m, variance v, epsilon e, gamma g, beta b: ``y = g (x - m) / sqrt(v + e) + b``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from workers.engine.graph.passes import rewriting as rw

Array = np.ndarray[Any, Any]


def recognise_batch_norm(model: ir.Model) -> int:
    """Write ``(x - m) * (rsqrt(v + e) * g) + b`` as one BatchNormalization, with channels first or last."""
    changed = 0
    for node in rw.nodes(model, "Mul"):
        found = _match(node)
        if found is not None:
            _emit(node, *found)
            changed += 1
    return changed


def _match(node: ir.Node) -> tuple[ir.Value, dict[str, ir.Value | None], float] | None:
    """Find (x, the four vectors, epsilon) when this Mul is the scaling step of a batch-norm."""
    for centred, factor in (node.inputs, tuple(reversed(node.inputs))):
        subtract = rw.producer(centred, "Sub")
        if subtract is None or not rw.is_constant(subtract.inputs[1]) or rw.is_constant(subtract.inputs[0]):
            continue
        gamma, inverse = _split_gamma(factor)
        variance, epsilon = _inverse_root(inverse)
        if variance is None or epsilon is None or subtract.inputs[0] is None:
            continue
        vectors = {"scale": gamma, "bias": None, "mean": subtract.inputs[1], "var": variance}
        return subtract.inputs[0], vectors, epsilon
    return None


def _split_gamma(factor: ir.Value | None) -> tuple[ir.Value | None, ir.Value | None]:
    product = rw.producer(factor, "Mul")
    if product is None:
        return None, factor
    left, right = product.inputs
    return (left, right) if rw.is_constant(left) else (right, left)


def _inverse_root(value: ir.Value | None) -> tuple[ir.Value | None, float | None]:
    """Match ``1 / sqrt(variance + epsilon)``."""
    reciprocal = rw.producer(value, "Reciprocal", "Div")
    if reciprocal is None or (reciprocal.op_type == "Div" and rw.scalar(reciprocal.inputs[0]) != 1.0):
        return None, None
    root = rw.producer(reciprocal.inputs[-1], "Sqrt")
    total = rw.producer(root.inputs[0], "Add") if root is not None else None
    if total is None:
        return None, None
    for variance, epsilon in (total.inputs, tuple(reversed(total.inputs))):
        if rw.is_constant(variance) and rw.scalar(epsilon) is not None:
            return variance, rw.scalar(epsilon)
    return None, None


def _emit(node: ir.Node, source: ir.Value, vectors: dict[str, ir.Value | None], epsilon: float) -> None:
    mean, shape = vectors["mean"], rw.shape_of(node.outputs[0])
    mean_shape = rw.shape_of(mean)
    if shape is None or mean is None or mean_shape is None or max(mean_shape, default=1) != int(np.prod(mean_shape)):
        return
    aligned = (1,) * (len(shape) - len(mean_shape)) + mean_shape
    channels = int(np.prod(mean_shape))
    axis = aligned.index(channels) if channels > 1 else 1
    last = node
    add = rw.only_user(node.outputs[0])
    if add is not None and add.op_type == "Add":
        other = add.inputs[1] if add.inputs[0] is node.outputs[0] else add.inputs[0]
        if rw.is_constant(other) and rw.shape_of(other) == mean_shape:
            vectors["bias"], last = other, add
    given = [_vector(node, vectors[key], channels, fill) for key, fill in (("scale", 1.0), ("bias", 0.0))]
    given += [_vector(node, vectors[key], channels, 0.0) for key in ("mean", "var")]
    to_first = [0, axis, *(index for index in range(1, len(shape)) if index != axis)]
    first = [shape[index] for index in to_first]
    value: ir.Value = source
    layer = rw.owner(mean)
    if layer is not None:
        node.metadata_props[rw.SOURCE] = layer
    if axis != 1:
        value = rw.new_node(last, "Transpose", [value], {"perm": to_first}, shape=first)
    value = rw.new_node(last, "BatchNormalization", [value, *given], {"epsilon": epsilon}, shape=first, merged=[node])
    if axis != 1:
        value = rw.new_node(last, "Transpose", [value], {"perm": np.argsort(to_first).tolist()}, shape=shape)
    rw.replace(last.outputs[0], value)


def _vector(node: ir.Node, value: ir.Value | None, channels: int, fill: float) -> ir.Value:
    """A batch-norm input as a vector; one that the layer leaves out is a literal, which nobody counts."""
    assert node.graph is not None  # noqa: S101  (passes walk a graph's own nodes)
    if value is None:
        return rw.add_constant(node.graph, np.full(channels, fill, np.float32), f"{rw.LITERAL}{fill:g}")
    return rw.add_lazy(
        node.graph, lambda: rw.numpy_of(value), (channels,), ir.DataType.FLOAT, value.name or "batch_norm"
    )


def merge_scale_chain(model: ir.Model) -> int:
    """Merge a per-channel Mul or Add after a BatchNormalization (Caffe's Scale layer) into its gamma and beta."""
    changed = 0
    for node in rw.nodes(model, "BatchNormalization"):
        user = rw.only_user(node.outputs[0])
        if user is None or user.op_type not in ("Mul", "Add") or len(_used_outputs(node)) > 1:
            continue
        other = user.inputs[1] if user.inputs[0] is node.outputs[0] else user.inputs[0]
        channels = rw.shape_of(node.inputs[1])
        if channels is None or not per_channel(other, channels[0], len(rw.shape_of(node.outputs[0]) or ())):
            continue
        assert other is not None  # noqa: S101  (per_channel refuses None)
        scale, bias = node.inputs[1:3]
        if user.op_type == "Mul":
            scale, bias = _times(node, scale, other, channels), _times(node, bias, other, channels)
        else:
            bias = _plus(node, bias, other, channels)
        inputs = [node.inputs[0], scale, bias, *node.inputs[3:5]]
        attributes = {"epsilon": rw.attribute(node, "epsilon", 1e-5)}
        shape = rw.shape_of(node.outputs[0])
        rw.replace(
            user.outputs[0],
            rw.new_node(user, "BatchNormalization", inputs, attributes, shape=shape, merged=[node, user]),
        )
        changed += 1
    return changed


def per_channel(value: ir.Value | None, channels: int, rank: int) -> bool:
    """Whether a constant varies along axis 1 of a tensor of this rank, and along nothing else."""
    shape = rw.shape_of(value)
    if not rw.is_constant(value) or shape is None or len(shape) > rank:
        return False
    aligned = (1,) * (rank - len(shape)) + shape
    return rank > 1 and aligned[1] == channels and int(np.prod(aligned)) == channels


def _times(node: ir.Node, left: ir.Value | None, right: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    assert node.graph is not None  # noqa: S101
    assert left is not None  # noqa: S101
    return rw.add_lazy(
        node.graph,
        lambda: rw.numpy_of(left).reshape(shape) * rw.numpy_of(right).reshape(shape),
        shape,
        ir.DataType.FLOAT,
        rw.joined([left, right]),
    )


def _plus(node: ir.Node, left: ir.Value | None, right: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    assert node.graph is not None  # noqa: S101
    assert left is not None  # noqa: S101
    return rw.add_lazy(
        node.graph,
        lambda: rw.numpy_of(left).reshape(shape) + rw.numpy_of(right).reshape(shape),
        shape,
        ir.DataType.FLOAT,
        rw.joined([left, right]),
    )


def _used_outputs(node: ir.Node) -> list[ir.Value]:
    return [output for output in node.outputs if output.uses() or output.is_graph_output()]


def fold_batch_norm(model: ir.Model) -> int:
    """Fold a BatchNormalization into the Conv, ConvTranspose (ungrouped) or Gemm that alone feeds it.

    A bias before batch-norm is redundant and vanishes here. The epsilon stays as metadata, for comparison.
    """
    changed = 0
    for node in rw.nodes(model, "BatchNormalization"):
        product = rw.producer(node.inputs[0], "Conv", "Gemm", "ConvTranspose")
        if product is None or node.inputs[0] is None or rw.only_user(node.inputs[0]) is not node:
            continue
        if not all(rw.is_constant(value) for value in product.inputs[1:] if value is not None):
            continue
        if product.op_type == "ConvTranspose" and rw.attribute(product, "group", 1) != 1:
            continue
        if product.op_type == "Gemm" and not rw.attribute(product, "transB", 0):
            continue
        _fold_one(node, product)
        changed += 1
    return changed


def _fold_one(node: ir.Node, product: ir.Node) -> None:
    graph = node.graph
    weight, bias = product.inputs[1], product.inputs[2] if len(product.inputs) > 2 else None  # noqa: PLR2004
    scale, beta, mean, var = node.inputs[1:5]
    shape, channels = rw.shape_of(weight), rw.shape_of(scale)
    if graph is None or weight is None or shape is None or channels is None:
        return
    epsilon = float(rw.attribute(node, "epsilon", 1e-5))
    output_axis = 1 if product.op_type == "ConvTranspose" else 0

    def refold(other: float) -> tuple[Array, Array]:
        wide = [rw.numpy_of(value).astype(np.float64) for value in (weight, scale, beta, mean, var)]
        factor = wide[1] / np.sqrt(wide[4] + other)
        aligned = [1] * len(shape)
        aligned[output_axis] = -1
        before = rw.numpy_of(bias).astype(np.float64) if bias is not None else np.zeros(channels)
        return wide[0] * factor.reshape(aligned), (before - wide[3]) * factor + wide[2]

    name = weight.name or "weight"
    inputs = [
        product.inputs[0],
        rw.add_lazy(graph, lambda: refold(epsilon)[0], shape, ir.DataType.FLOAT, name),
        rw.add_lazy(graph, lambda: refold(epsilon)[1], channels, ir.DataType.FLOAT, name),
    ]
    attributes = dict(product.attributes)
    output_shape = rw.shape_of(node.outputs[0])
    output = rw.new_node(node, product.op_type, inputs, attributes, shape=output_shape, merged=[product, node])
    folded = output.producer()
    if folded is not None:
        folded.metadata_props[rw.EPSILON] = repr(epsilon)
        folded.meta[rw.REFOLD] = refold
    rw.replace(node.outputs[0], output)
