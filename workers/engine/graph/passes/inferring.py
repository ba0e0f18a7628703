"""Static shapes of all values, by ONNX's own inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from workers.engine.graph.passes import rewriting as rw

if TYPE_CHECKING:
    from collections.abc import Iterator

_VISIBLE_ELEMENTS = 256
"""Constants up to this many elements are shown to the inference: starts, ends, sizes and scales decide shapes."""


def infer_shapes(model: ir.Model) -> bool:
    """Give every value without a static shape the one that ONNX infers; return whether any got one.

    Large weights are shown as inputs, which costs no copy of them. Small constants must stay constants: onnx-ir's own
    pass shows all of them as inputs as well, and the shape of a Slice is then unknown.
    """
    unknown = {value.name: value for value in _values(model) if rw.shape_of(value) is None}
    if not unknown:
        return False
    for value in unknown.values():
        value.shape = None  # it may have been inferred as symbolic before its indices were folded
    try:
        inferred = onnx.shape_inference.infer_shapes(_skeleton(model), strict_mode=False, data_prop=True)
    except Exception:  # noqa: BLE001  (what cannot be inferred is reported by the node that needs it)
        return False
    found = False
    for info in (*inferred.graph.value_info, *inferred.graph.output):
        value = unknown.get(info.name)
        tensor = info.type.tensor_type
        if value is None or not tensor.HasField("shape"):
            continue
        value.shape = ir.Shape([axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim])
        if value.dtype is None and tensor.elem_type:
            value.dtype = ir.DataType(tensor.elem_type)
        found = found or rw.shape_of(value) is not None
    return found


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for node in model.graph:
        yield from node.outputs


def _skeleton(model: ir.Model) -> onnx.ModelProto:
    """Serialise a model with its large weights as inputs; the model is as before afterwards."""
    graph = model.graph
    before = len(graph.inputs)
    hidden = [value for value in graph.initializers.values() if not _visible(value)]
    tensors = [value.const_value for value in hidden]
    for value in hidden:
        value.shape = ir.Shape(rw.shape_of(value) or ())
        graph.inputs.append(value)
        graph.initializers.pop(str(value.name))
        value.const_value = None
    try:
        return ir.to_proto(model)
    finally:
        del graph.inputs[before:]
        for value, tensor in zip(hidden, tensors, strict=True):
            value.const_value = tensor
            graph.register_initializer(value)


def _visible(value: ir.Value) -> bool:
    if value.const_value is None or value.const_value.size > _VISIBLE_ELEMENTS:
        return False
    scales = any(use.node.op_type in ("Resize", "Upsample") for use in value.uses())
    return scales or value.const_value.dtype.is_integer() or value.const_value.size == 1
