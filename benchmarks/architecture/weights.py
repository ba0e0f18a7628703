"""Elements of the weights that benchmark networks are run with; their files hold the small ones only."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from architecture.draft import Elements

Array = np.ndarray[Any, Any]

_FACTORS = {"BatchNormalization": (1, 4), "LayerNormalization": (1,), "Mul": (0, 1)}
"""Inputs that multiply or are a variance: what may be neither near 0 nor negative."""

_READERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization", "Add", "Mul",
            "Concat", "Gather", "Einsum", "LSTM")  # fmt: skip
"""Operators whose constants are weights; any other reader (Resize, Clip) needs its constants as they are."""

_POOL = 1_000_003
"""Numbers drawn for one tensor; larger ones repeat them. A prime, so that no two rows or columns are equal."""


class Weights:
    """Elements by name: those computed by a rewrite, those in the file, and the others drawn, always the same."""

    def __init__(self, proto: onnx.ModelProto, elements: Mapping[str, Elements], base: Weights | None = None) -> None:
        self._tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._elements = elements
        self._base = base

    def __contains__(self, name: str) -> bool:
        return name in self._tensors or (self._base is not None and name in self._base)

    def __call__(self, name: str) -> Array:
        """Return the elements of one weight."""
        if name in self._elements:
            dtype = helper.tensor_dtype_to_np_dtype(self._tensors[name].data_type)
            return np.asarray(self._elements[name](self), dtype).reshape(tuple(self._tensors[name].dims))
        if self._base is not None and name in self._base:
            return self._base(name)
        tensor = self._tensors[name]
        if tensor.data_location == TensorProto.EXTERNAL:
            return draw(name, tuple(tensor.dims), factor=False)
        return numpy_helper.to_array(tensor)


def draw(name: str, shape: tuple[int, ...], *, factor: bool) -> Array:
    """Draw a weight: matrices and kernels as He et al. (ICCV 2015, eq. 10), offsets near 0, factors near 1."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    size = math.prod(shape)
    if size > max(shape) and not factor:
        # Output channels stand first (OIHW) or last (HWIO); the rest is what one of them sums over.
        fan_in = size / max(shape[0], shape[-1])
        pool = rng.standard_normal(min(size, _POOL), np.float32) * np.float32(math.sqrt(2 / fan_in))
        return np.resize(pool, shape)
    drawn = rng.uniform(0.5, 1.5, shape) if factor else rng.normal(0, 0.1, shape)
    return drawn.astype(np.float32)


def draw_small(proto: onnx.ModelProto) -> None:
    """Give the small weights of a file elements that hide nothing: no batch-norm that is the identity, no bias of 0."""
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, index))
    for tensor in proto.graph.initializer:
        uses = readers.get(tensor.name, [])
        known = tensor.data_location != TensorProto.EXTERNAL and tensor.data_type == TensorProto.FLOAT
        if not known or math.prod(tensor.dims) <= 1 or any(node.op_type not in _READERS for node, _ in uses):
            continue
        if np.isneginf(numpy_helper.to_array(tensor)).any():
            continue  # a mask
        factor = any(index in _FACTORS.get(node.op_type, ()) for node, index in uses)
        tensor.CopyFrom(numpy_helper.from_array(draw(tensor.name, tuple(tensor.dims), factor=factor), tensor.name))
