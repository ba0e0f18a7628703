"""Layers in another spelling: products, batch-norm, layer-norm, pools."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from architecture.draft import Draft, attribute

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from typing import Any

    from architecture.draft import Elements, Rewriter

    Array = np.ndarray[Any, Any]
    Values = Callable[[str], Array]


def _copy(name: str) -> Elements:
    """Elements of another weight, in the new one's shape."""
    return lambda weights: weights(name)


def _folded_batch_norm(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    conv = draft.producer(node.input[0])
    if conv is None or conv.op_type != "Conv" or len(draft.users(conv.output[0])) != 1 or len(conv.input) > 2:
        return False
    kernel, epsilon = conv.input[1], attribute(node, "epsilon", 1e-5)
    scale, bias, mean, variance = node.input[1:5]

    def factor(weights: Values) -> Array:
        return weights(scale) / np.sqrt(weights(variance) + epsilon)

    dims = draft.shape(kernel)
    conv.input[1] = draft.weight(dims, lambda w: w(kernel) * factor(w).reshape(-1, *(1,) * (len(dims) - 1)))
    conv.input.append(draft.weight(draft.shape(scale), lambda w: w(bias) - w(mean) * factor(w)))
    conv.output[0] = node.output[0]
    draft.remove(node)
    return True


def _arithmetic_batch_norm(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """As Keras writes it on its torch backend."""
    shape = draft.shape(node.output[0])
    vector = (1, shape[1], *(1,) * (len(shape) - 2))
    scale, bias, mean, variance = (draft.weight(vector, _copy(name)) for name in node.input[1:5])
    epsilon = draft.constant(attribute(node, "epsilon", 1e-5))
    centred = draft.node("Sub", [node.input[0], mean])
    total = draft.node("Add", [variance, epsilon])
    root = draft.node("Sqrt", [total.output[0]])
    inverse = draft.node("Reciprocal", [root.output[0]])
    factor = draft.node("Mul", [inverse.output[0], scale])
    scaled = draft.node("Mul", [centred.output[0], factor.output[0]])
    shifted = draft.node("Add", [scaled.output[0], bias], node.output[0])
    draft.replace(node, centred, total, root, inverse, factor, scaled, shifted)
    return True


def _matmul(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """Gemm as MatMul + Add, or with its matrix the other way round."""
    if not attribute(node, "transB", 0) or len(node.input) < 3 or node.input[1] not in draft.weights:
        return False
    rows, columns = draft.shape(node.input[1])
    old = node.input[1]
    matrix = draft.weight((columns, rows), lambda w: w(old).T)
    if rng.random() < 0.5:
        made = draft.node("Gemm", [node.input[0], matrix, node.input[2]], node.output[0])
        draft.replace(node, made)
        return True
    product = draft.node("MatMul", [node.input[0], matrix])
    draft.replace(node, product, draft.node("Add", [product.output[0], node.input[2]], node.output[0]))
    return True


def _conv_head(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """A dense head as a 1x1 convolution."""
    if not draft.is_output(node.output[0]) or not attribute(node, "transB", 0) or len(draft.shape(node.input[0])) != 2:
        return False
    rows, columns = draft.shape(node.input[1])
    batch = draft.shape(node.input[0])[0]
    view = draft.node("Reshape", [node.input[0], draft.constant([batch, columns, 1, 1], np.int64)])
    kernel = draft.weight((rows, columns, 1, 1), _copy(node.input[1]))
    conv = draft.node("Conv", [view.output[0], kernel, *node.input[2:]])
    draft.replace(node, view, conv, draft.node("Flatten", [conv.output[0]], node.output[0], axis=1))
    return True


def _conv_bias(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """A convolution's bias as an Add behind it."""
    if len(node.input) < 3:
        return False
    channels = draft.shape(node.input[1])[0]
    made = draft.node(
        "Add", [draft.name("value"), draft.weight((1, channels, 1, 1), _copy(node.input[2]))], node.output[0]
    )
    bare = draft.node(
        "Conv",
        list(node.input[:2]),
        made.input[0],
        **{item.name: helper.get_attribute_value(item) for item in node.attribute},
    )
    draft.replace(node, bare, made)
    return True


def _layer_norm(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """Mean, variance and scaling one by one, as frameworks wrote it before opset 17."""
    shape = draft.shape(node.input[0])
    if attribute(node, "axis", -1) % len(shape) != len(shape) - 1 or len(node.input) < 3:
        return False
    x, axes = node.input[0], draft.constant([-1], np.int64)
    mean = draft.node("ReduceMean", [x, axes])
    centred = draft.node("Sub", [x, mean.output[0]])
    if rng.random() < 0.5:
        square = draft.node("Pow", [centred.output[0], draft.constant(2.0)])
    else:
        square = draft.node("Mul", [centred.output[0], centred.output[0]])
    variance = draft.node("ReduceMean", [square.output[0], axes])
    total = draft.node("Add", [variance.output[0], draft.constant(attribute(node, "epsilon", 1e-5))])
    root = draft.node("Sqrt", [total.output[0]])
    divided = draft.node("Div", [centred.output[0], root.output[0]])
    scaled = draft.node("Mul", [divided.output[0], node.input[1]])
    shifted = draft.node("Add", [scaled.output[0], node.input[2]], node.output[0])
    draft.replace(node, mean, centred, square, variance, total, root, divided, scaled, shifted)
    return True


def _global_pool(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    shape, output = draft.shape(node.input[0]), draft.shape(node.output[0])
    if len(shape) != 4 or len(output) != 4 or output[2:] != (1, 1):
        return False
    if rng.random() < 0.5:
        made = draft.node("GlobalAveragePool", [node.input[0]], node.output[0])
    else:
        made = draft.node("AveragePool", [node.input[0]], node.output[0], kernel_shape=list(shape[2:]))
    draft.replace(node, made)
    return True


LAYERS: dict[str, tuple[tuple[str, ...], Rewriter]] = {
    "batch-norm folded": (("BatchNormalization",), _folded_batch_norm),
    "batch-norm arithmetic": (("BatchNormalization",), _arithmetic_batch_norm),
    "matmul, gemm": (("Gemm",), _matmul),
    "convolutional head": (("Gemm",), _conv_head),
    "global pool": (("ReduceMean",), _global_pool),
    "layer norm": (("LayerNormalization",), _layer_norm),
    "convolution bias": (("Conv",), _conv_bias),
}
"""Kinds by name, with the operators where they apply (none: the whole file)."""
