"""Operators in float64: the reference against which float32 results are judged.

onnxruntime has no float64 convolution, average pooling or batch-norm, so the operators of the canonical form are
computed here with numpy; the rarer ones by ONNX's own reference implementation.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from scipy import special

from workers.engine.graph.passes import rewriting as rw
from workers.engine.graph.passes.constants import OPSET, reshape_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Array = np.ndarray[Any, Any]


def evaluate(node: ir.Node, inputs: Sequence[Array | None]) -> list[Array]:
    """Compute one node of the standard domain; floating-point inputs are float64, and so are the results.

    Returns the node's outputs in order (only the first, where only the first is computed here). Raises TypeError when
    an operator answers in less than float64, and whatever the reference raises for one that it cannot compute.
    """
    kernel = _KERNELS.get(node.op_type)
    with np.errstate(all="ignore"):  # the network would compute the same infinity
        if kernel is not None and not any(output.uses() for output in node.outputs[1:]):
            found = [np.asarray(kernel(node, list(inputs)))]
        else:
            found = _by_reference(node, inputs)
    for value in found:
        if value.dtype in (np.float32, np.float16):
            raise TypeError(f"{node.op_type} has no float64 reference")
    return found


def _by_reference(node: ir.Node, inputs: Sequence[Array | None]) -> list[Array]:
    proto = ir.serde.serialize_node(node)
    names = [f"i{index}" if array is not None else "" for index, array in enumerate(inputs)]
    outputs = [f"o{index}" for index in range(len(node.outputs))]
    del proto.input[:], proto.output[:]
    proto.input.extend(names)
    proto.output.extend(outputs)
    feeds = {name: array for name, array in zip(names, inputs, strict=True) if array is not None}
    given = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    ends = [onnx.helper.make_empty_tensor_value_info(name) for name in outputs]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([proto], "node", given, ends), opset_imports=[onnx.helper.make_opsetid("", OPSET)]
    )
    return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, feeds)]


def _ints(node: ir.Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(size) for size in rw.attribute(node, name, tuple(default)))


def _geometry(node: ir.Node, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], list[tuple[int, int]]]:
    """Strides, dilations and (before, after) padding of every spatial axis; the canonical form has no auto_pad."""
    pads = _ints(node, "pads", (0,) * (2 * rank))
    return (
        _ints(node, "strides", (1,) * rank),
        _ints(node, "dilations", (1,) * rank),
        [(pads[axis], pads[axis + rank]) for axis in range(rank)],
    )


def _windows(data: Array, offset: Sequence[int], strides: Sequence[int], sizes: Sequence[int]) -> Array:
    """What one position of the kernel sees: a strided view of the padded data."""
    spatial = tuple(
        slice(first, first + (size - 1) * stride + 1, stride)
        for first, stride, size in zip(offset, strides, sizes, strict=True)
    )
    return data[(slice(None), slice(None), *spatial)]


def _output_sizes(data: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    sizes = []
    for size, width, stride, dilation in zip(data.shape[2:], kernel, strides, dilations, strict=True):
        sizes.append((size - (width - 1) * dilation - 1) // stride + 1)
    return sizes


def _conv(node: ir.Node, inputs: list[Any]) -> Array:
    """Convolve by one matrix product for each position of the kernel, which needs no unrolled copy of the data."""
    data, weight = inputs[:2]
    rank, group = data.ndim - 2, int(rw.attribute(node, "group", 1))
    strides, dilations, pads = _geometry(node, rank)
    data = np.pad(data, [(0, 0), (0, 0), *pads]) if any(map(any, pads)) else data
    kernel = weight.shape[2:]
    sizes = _output_sizes(data, kernel, strides, dilations)
    batch, filters = data.shape[0], weight.shape[0]
    total = np.zeros((batch, group, filters // group, math.prod(sizes)))
    for position in itertools.product(*map(range, kernel)):
        offset = [index * dilation for index, dilation in zip(position, dilations, strict=True)]
        seen = _windows(data, offset, strides, sizes).reshape(batch, group, -1, math.prod(sizes))
        part = weight[(slice(None), slice(None), *position)].reshape(group, filters // group, -1)
        # A depthwise product is element-wise; as a batch of 1x1 matrix products it would be many times slower.
        total += part * seen if part.shape[1:] == (1, 1) else part @ seen
    total = total.reshape(batch, filters, *sizes)
    return total if len(inputs) < 3 or inputs[2] is None else total + _channels(inputs[2], total.ndim)  # noqa: PLR2004


def _views(node: ir.Node, data: Array, fill: float) -> list[Array]:
    """What each position of a pooling window sees of the data, padded with ``fill``."""
    kernel = _ints(node, "kernel_shape", ())
    strides, dilations, pads = _geometry(node, len(kernel))
    if rw.attribute(node, "ceil_mode", 0):  # the last window may hang over the padded edge
        pads = [(before, after + stride - 1) for (before, after), stride in zip(pads, strides, strict=True)]
    padded = np.pad(data, [(0, 0), (0, 0), *pads], constant_values=fill)
    sizes = _output_sizes(padded, kernel, strides, dilations)
    return [
        _windows(padded, [i * d for i, d in zip(position, dilations, strict=True)], strides, sizes)
        for position in itertools.product(*map(range, kernel))
    ]


def _max_pool(node: ir.Node, inputs: list[Any]) -> Array:
    views = _views(node, inputs[0], -np.inf)
    largest = views[0].copy()
    for view in views[1:]:
        np.maximum(largest, view, out=largest)
    return largest


def _average_pool(node: ir.Node, inputs: list[Any]) -> Array:
    if rw.attribute(node, "ceil_mode", 0):
        return _by_reference(node, inputs)[0]
    views = _views(node, inputs[0], 0.0)
    total = np.zeros(views[0].shape)
    for view in views:
        total += view
    if rw.attribute(node, "count_include_pad", 0):
        return total / len(views)
    real = np.ones((1, 1, *inputs[0].shape[2:]))
    return total / sum(_views(node, real, 0.0))


def _global(function: Callable[..., Array]) -> Callable[[ir.Node, list[Any]], Array]:
    return lambda _, inputs: function(inputs[0], axis=tuple(range(2, inputs[0].ndim)), keepdims=True)


def _channels(vector: Array, rank: int) -> Array:
    return vector.reshape(-1, *(1,) * (rank - 2))


def _gemm(node: ir.Node, inputs: list[Any]) -> Array:
    left = inputs[0].T if rw.attribute(node, "transA", 0) else inputs[0]
    right = inputs[1].T if rw.attribute(node, "transB", 0) else inputs[1]
    product = rw.attribute(node, "alpha", 1.0) * (left @ right)
    if len(inputs) < 3 or inputs[2] is None:  # noqa: PLR2004  (data, weight, bias)
        return product
    return product + rw.attribute(node, "beta", 1.0) * inputs[2]


def _batch_norm(node: ir.Node, inputs: list[Any]) -> Array:
    data = inputs[0]
    scale, bias, mean, variance = (_channels(vector, data.ndim) for vector in inputs[1:5])
    return (data - mean) / np.sqrt(variance + float(rw.attribute(node, "epsilon", 1e-5))) * scale + bias


def _layer_norm(node: ir.Node, inputs: list[Any]) -> Array:
    data = inputs[0]
    axes = tuple(range(rw.attribute(node, "axis", -1) % data.ndim, data.ndim))
    centred = data - data.mean(axis=axes, keepdims=True)
    variance = (centred**2).mean(axis=axes, keepdims=True)
    found = centred / np.sqrt(variance + float(rw.attribute(node, "epsilon", 1e-5))) * inputs[1]
    return found if len(inputs) < 3 or inputs[2] is None else found + inputs[2]  # noqa: PLR2004


def _lrn(node: ir.Node, inputs: list[Any]) -> Array:
    """Local response normalisation across channels (onnx's reference sums over the batch instead, as of 1.23)."""
    data, size = inputs[0], int(rw.attribute(node, "size"))
    before, after = (size - 1) // 2, size // 2
    squares = np.pad(data**2, [(0, 0), (before, after), *[(0, 0)] * (data.ndim - 2)])
    total = np.zeros(data.shape)
    for shift in range(size):
        total += squares[:, shift : shift + data.shape[1]]
    alpha, beta = (float(rw.attribute(node, key, value)) for key, value in (("alpha", 1e-4), ("beta", 0.75)))
    return data / (float(rw.attribute(node, "bias", 1.0)) + alpha / size * total) ** beta


def _clip(_: ir.Node, inputs: list[Any]) -> Array:
    low, high = (*inputs[1:], None, None)[:2]
    found = inputs[0]
    found = found if low is None else np.maximum(found, low)
    return found if high is None else np.minimum(found, high)


def _gelu(node: ir.Node, inputs: list[Any]) -> Array:
    x = inputs[0]
    if rw.attribute(node, "approximate", "none") in ("tanh", b"tanh"):
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + special.erf(x / math.sqrt(2)))


def _hard_sigmoid(node: ir.Node, inputs: list[Any]) -> Array:
    alpha, beta = (float(rw.attribute(node, key, value)) for key, value in (("alpha", 0.2), ("beta", 0.5)))
    return np.clip(alpha * inputs[0] + beta, 0, 1)


def _softmax(node: ir.Node, inputs: list[Any]) -> Array:
    return special.softmax(inputs[0], axis=rw.attribute(node, "axis", -1))


def _reshape(node: ir.Node, inputs: list[Any]) -> Array:
    target = reshape_target(inputs[0].shape, inputs[1], zero=bool(rw.attribute(node, "allowzero", 0)))
    return inputs[0].reshape(target)


def _flatten(node: ir.Node, inputs: list[Any]) -> Array:
    axis = rw.attribute(node, "axis", 1)
    return inputs[0].reshape(math.prod(inputs[0].shape[:axis]), -1)


def _divide(_: ir.Node, inputs: list[Any]) -> Array:
    left, right = inputs
    if np.issubdtype(np.asarray(left).dtype, np.integer):
        return np.trunc(left / right).astype(left.dtype)  # ONNX divides integers towards zero
    return left / right


def _cast(node: ir.Node, inputs: list[Any]) -> Array:
    """Cast; float32 is what this module computes in float64. A cast to half precision really rounds, and is refused."""
    target = ir.DataType(rw.attribute(node, "to"))
    return inputs[0].astype(np.float64 if target is ir.DataType.FLOAT else target.numpy())


def _reduce_mean(node: ir.Node, inputs: list[Any]) -> Array:
    axes = tuple(int(axis) for axis in inputs[1]) if len(inputs) > 1 and inputs[1] is not None else None
    return inputs[0].mean(axis=axes, keepdims=bool(rw.attribute(node, "keepdims", 1)))


_KERNELS: dict[str, Callable[[ir.Node, list[Any]], Array]] = {
    "Conv": _conv,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global(np.mean),
    "GlobalMaxPool": _global(np.max),
    "Gemm": _gemm,
    "MatMul": lambda _, inputs: inputs[0] @ inputs[1],
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "LRN": _lrn,
    "Relu": lambda _, inputs: np.maximum(inputs[0], 0),
    "Clip": _clip,
    "Sigmoid": lambda _, inputs: special.expit(inputs[0]),
    "Tanh": lambda _, inputs: np.tanh(inputs[0]),
    "Erf": lambda _, inputs: special.erf(inputs[0]),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda _, inputs: inputs[0] * np.clip(inputs[0] / 6 + 0.5, 0, 1),
    "Softmax": _softmax,
    "LogSoftmax": lambda node, inputs: special.log_softmax(inputs[0], axis=rw.attribute(node, "axis", -1)),
    "Add": lambda _, inputs: inputs[0] + inputs[1],
    "Sub": lambda _, inputs: inputs[0] - inputs[1],
    "Mul": lambda _, inputs: inputs[0] * inputs[1],
    "Div": _divide,
    "Cast": _cast,
    "Concat": lambda node, inputs: np.concatenate(inputs, axis=rw.attribute(node, "axis")),
    "Transpose": lambda node, inputs: np.transpose(inputs[0], rw.attribute(node, "perm")),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "ReduceMean": _reduce_mean,
    "Identity": lambda _, inputs: inputs[0],
}
