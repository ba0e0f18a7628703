"""What two models are run with to see whether they compute the same: weights that hide nothing, random inputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from workers.engine.graph.passes import rewriting as rw
from workers.engine.graph.reading import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Array = np.ndarray[Any, Any]

SEED = 20

_PICTURE_RANK = 4
_PATCH = 32
"""Side of the patches of one colour in a random picture, in pixels."""

IR_VERSION = 8
"""Before version 4 every initializer had to be an input as well, which those that the passes add are not."""

_VIEWS = ("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Expand", "Cast", "CastLike", "Identity", "Flatten")
_READERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization", "Add", "Sub", "Mul",
            "InstanceNormalization", "GroupNormalization", "PRelu", "Sqrt")  # fmt: skip
"""Operators that read weights; any other reader (Resize, Pad, Clip) needs its constants as they are."""

_SATURATING = ("Softmax", "LogSoftmax", "Sigmoid")

_POOL = 1_000_003
"""Numbers drawn for one tensor; larger ones repeat them. A prime, so that no two rows or columns are equal."""

UNTRAINED = 0.25
"""Share of constant tensors above which the weights are taken for initial ones."""


def probing_weights(path: Path, copy: Path) -> tuple[Path, int]:
    """Redraw weights that would hide differences; return the file to run and how many tensors were redrawn.

    A batch-norm that was never trained (mean 0, variance 1), a bias of zeros or a placeholder weight of equal elements
    makes different functions agree, so constant tensors are redrawn; a model with many of them was not trained, and all
    of it is. Matrices and kernels are drawn as He et al. (ICCV 2015, eq. 10) do, offsets from N(0, 0.1), factors from
    U(0.5, 1.5). Trained weights stay. The input of a final Softmax or Sigmoid, which saturates, becomes one more
    output. The published file is never changed; ``copy`` is written where anything has to be.
    """
    with quiet():
        model = ir.load(path)
    _materialise(model.graph)
    weights = [value for value in model.graph.initializers.values() if _redrawable(value)]
    constant = [value for value in weights if _is_constant(value.const_value)]
    chosen = weights if len(constant) > UNTRAINED * len(weights) else constant
    rng = np.random.default_rng(SEED)
    for value in chosen:
        tensor = value.const_value
        if tensor is not None:
            drawn = _draw(rng, tuple(tensor.shape.numpy()), offset=not _is_factor(value))
            value.const_value = ir.tensor(drawn.astype(tensor.dtype.numpy(), copy=False), name=value.name)
    if _expose_logits(model.graph) + len(chosen) == 0:
        return path, 0
    model.ir_version = max(model.ir_version or 0, IR_VERSION)
    with quiet():
        ir.save(model, copy)
    return copy, len(chosen)


def _redrawable(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or tensor.size <= 1 or tensor.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        return False
    readers = list(_readers(value))
    if not readers or not all(node.domain == "" and node.op_type in _READERS for node, _ in readers):
        return False
    return bool(np.isfinite(tensor.numpy()).all())


def _is_constant(tensor: Any) -> bool:
    array = tensor.numpy()
    return bool((array == array.flat[0]).all())


def _is_factor(value: ir.Value) -> bool:
    """Whether a vector multiplies, or is a variance: what may be neither near 0 nor negative."""
    return any(
        index in (1, 4) if node.op_type.endswith("Normalization") else node.op_type in ("Mul", "Sqrt", "PRelu")
        for node, index in _readers(value)
    ) or any(node.op_type == "Add" and _under_root(node) for node, _ in _readers(value))


def _under_root(node: ir.Node) -> bool:
    """Whether a sum is variance + epsilon."""
    return any(user.op_type == "Sqrt" for user, _ in node.outputs[0].uses())


def _expose_logits(graph: ir.Graph) -> int:
    """Make what a final Softmax or Sigmoid reads an output too; return how many outputs were added."""
    added = 0
    for output in tuple(graph.outputs):
        node = output.producer()
        while node is not None and node.op_type in _VIEWS and node.inputs[0] is not None:
            node = node.inputs[0].producer()
        logits = node.inputs[0] if node is not None and node.op_type in _SATURATING else None
        if logits is None or logits.is_graph_output() or logits.producer() is None:
            continue
        logits.dtype = logits.dtype or output.dtype
        graph.outputs.append(logits)
        added += 1
    return added


def _draw(rng: np.random.Generator, shape: tuple[int, ...], *, offset: bool) -> Array:
    size = math.prod(shape)
    if size > max(shape):
        # Output channels stand first (OIHW) or last (HWIO); the rest is what one of them sums over.
        fan_in = size / max(shape[0], shape[-1])
        pool = rng.standard_normal(min(size, _POOL), np.float32) * np.float32(math.sqrt(2 / fan_in))
        return np.resize(pool, shape)
    return rng.normal(scale=0.1, size=shape) if offset else rng.uniform(0.5, 1.5, size=shape)


def _materialise(graph: ir.Graph) -> None:
    """Turn ConstantOfShape weights of a known shape (the placeholder weights of the onnx package) into initializers."""
    for node in list(graph):
        shape = node.inputs[0].const_value if node.op_type == "ConstantOfShape" and node.inputs[0] else None
        if shape is None or node.outputs[0].is_graph_output():
            continue
        fill = node.attributes.get("value")
        item = fill.as_tensor().numpy().reshape(()) if fill is not None else np.zeros((), np.float32)
        tensor = ir.tensor(np.full(tuple(int(size) for size in shape.numpy()), item))
        value = ir.Value(name=f"{node.outputs[0].name}::drawn", shape=tensor.shape, const_value=tensor)
        value.dtype = tensor.dtype
        graph.register_initializer(value)
        node.outputs[0].replace_all_uses_with(value)
        graph.remove(node, safe=True)


def _readers(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """Yield who reads a value, as it is or rearranged."""
    for node, index in value.uses():
        if node.op_type in _VIEWS and index == 0:
            yield from _readers(node.outputs[0])
        else:
            yield node, index


def feeds(model: ir.Model, seed: int) -> list[Array]:
    """Draw one input for each of a canonical model's: sums of normal noise, integers within the table they index."""
    rng = np.random.default_rng([SEED, seed])
    found = []
    for value in model.graph.inputs:
        shape = rw.shape_of(value) or ()
        dtype = (value.dtype or ir.DataType.FLOAT).numpy()
        if np.issubdtype(dtype, np.floating):
            found.append(_signal(rng, shape).astype(dtype))
        else:
            found.append(rng.integers(0, _rows(value), size=shape).astype(dtype))
    return found


def _signal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Noise on every scale: white noise alone averages out in a network that ends in a mean over the picture."""
    drawn = rng.normal(size=shape)
    if len(shape) != _PICTURE_RANK:
        return drawn
    coarse = rng.normal(size=(*shape[:2], *(-(-size // _PATCH) for size in shape[2:])))
    for axis in (2, 3):
        coarse = np.repeat(coarse, _PATCH, axis=axis)
    return drawn + coarse[:, :, : shape[2], : shape[3]] + rng.normal(size=(*shape[:2], 1, 1))


def _rows(value: ir.Value) -> int:
    """Rows of the smallest table that an integer input is an index of; 2 when it is a mask or a flag."""
    tables = [
        (rw.shape_of(node.inputs[0]) or (2,))[rw.attribute(node, "axis", 0)]
        for node, index in value.uses()
        if node.op_type == "Gather" and index == 1
    ]
    return max(1, min(tables)) if tables else 2
