"""Constants: Constant nodes become initializers, and what depends on constants alone is computed once."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from workers.engine.graph.passes import rewriting as rw

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Neg": np.negative,
    "Exp": np.exp,
    "Log": np.log,
    "Max": np.maximum,
    "Min": np.minimum,
}
_VIEWS = ("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Cast", "CastLike", "Identity")
_NEVER = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
_GENERIC_ELEMENTS = 1 << 20
"""Other operators on constants are computed by ONNX's reference implementation up to this many elements."""


def constants_to_initializers(model: ir.Model) -> int:
    """Turn every Constant node into an initializer."""
    changed = 0
    for node in rw.nodes(model, "Constant"):
        tensor = _constant_tensor(node)
        if tensor is None:
            continue
        rw.replace(node.outputs[0], rw.add_constant(model.graph, tensor, node.outputs[0].name or "constant"))
        changed += 1
    return changed


def _constant_tensor(node: ir.Node) -> Array | None:
    for name, attribute in node.attributes.items():
        if name == "value":
            return attribute.value.numpy()
        if name in ("value_float", "value_floats"):
            return np.asarray(attribute.value, dtype=np.float32)
        if name in ("value_int", "value_ints"):
            return np.asarray(attribute.value, dtype=np.int64)
    return None


def fold_shapes(model: ir.Model) -> int:
    """Compute what depends on shapes and constants, leaving arithmetic on weight vectors visible.

    A batch-norm written as arithmetic (Sub, Sqrt, Reciprocal, Mul, Add) is recognised by exactly that arithmetic, so it
    must survive until ``recognise_batch_norm`` has run; ``fold_arithmetic`` computes the rest.
    """
    return sum(_fold(node, arithmetic=False) for node in model.graph)


def fold_arithmetic(model: ir.Model) -> int:
    """Compute everything that depends on constants alone."""
    return sum(_fold(node, arithmetic=True) for node in model.graph)


def _fold(node: ir.Node, *, arithmetic: bool) -> int:
    graph = node.graph
    if graph is None or node.domain != "" or node.op_type in _NEVER or len(node.outputs) != 1:
        return 0
    output = node.outputs[0]
    if not output.uses() and not output.is_graph_output():
        return 0
    if node.op_type in ("Shape", "Size"):
        return _fold_shape(node)
    if not _foldable(node, arithmetic=arithmetic):
        return 0
    folded = _view(node) if node.op_type in _VIEWS else _compute(node)
    if folded is not None:
        rw.replace(output, folded)
    return int(folded is not None)


def _foldable(node: ir.Node, *, arithmetic: bool) -> bool:
    given = [value for value in node.inputs if value is not None]
    if node.op_type == "CastLike":  # the second input is read for its type alone
        return rw.is_constant(node.inputs[0]) and given[-1].dtype is not None
    if not given or not all(rw.is_constant(value) for value in given):
        return False
    return arithmetic or node.op_type not in _ARITHMETIC or not _is_weight_arithmetic(given)


def _is_weight_arithmetic(given: list[ir.Value]) -> bool:
    return any(value.const_value.size > 1 and value.dtype.is_floating_point() for value in given)


def _fold_shape(node: ir.Node) -> int:
    shape = rw.shape_of(node.inputs[0])
    if shape is None or node.graph is None:
        return 0
    if node.op_type == "Size":
        array = np.asarray(int(np.prod(shape)), dtype=np.int64)
    else:
        array = np.asarray(shape[rw.attribute(node, "start", 0) : rw.attribute(node, "end")], dtype=np.int64)
    rw.replace(node.outputs[0], rw.add_constant(node.graph, array, "shape"))
    return 1


def _view(node: ir.Node) -> ir.Value | None:
    """Rearrange or cast a constant: at once when small, lazily when large."""
    source = node.inputs[0]
    if source is None or source.const_value is None or source.dtype is None or node.graph is None:
        return None
    dtype = _cast_target(node) or source.dtype
    shape_in = tuple(int(size) for size in source.const_value.shape)
    size = source.const_value.size
    small = size <= rw.EAGER_ELEMENTS and _expanded_size(node) <= rw.EAGER_ELEMENTS
    if not small or _is_absent(source):
        rearrange = _rearranger(node, shape_in)
        if rearrange is None:
            return None
        # Broadcasting one zero costs no memory, so the shape is found without touching the weights.
        shape = rearrange(np.broadcast_to(np.zeros((), np.int8), shape_in)).shape
        kept, function = source, rearrange
        return rw.add_lazy(node.graph, lambda: function(rw.numpy_of(kept)), shape, dtype, source.name or "weight")
    rearrange = _rearranger(node, shape_in)
    if rearrange is None:
        return None
    array = rearrange(rw.numpy_of(source)).astype(dtype.numpy())
    return rw.add_constant(node.graph, array, source.name or "constant")


def _is_absent(value: ir.Value) -> bool:
    """Whether the elements of a constant are missing, because they are those of an absent weight."""
    try:
        rw.numpy_of(value)
    except rw.AbsentValueError:
        return True
    return False


def _cast_target(node: ir.Node) -> ir.DataType | None:
    if node.op_type == "Cast":
        return ir.DataType(rw.attribute(node, "to"))
    return node.inputs[1].dtype if node.op_type == "CastLike" and node.inputs[1] is not None else None


def _expanded_size(node: ir.Node) -> int:
    target = rw.constant(node.inputs[1]) if node.op_type == "Expand" else None
    return int(np.prod(target)) if target is not None else 0


def _rearranger(node: ir.Node, shape: tuple[int, ...]) -> Callable[[Array], Array] | None:
    """Return the function of arrays that a view operator stands for; None when its target is computed at run time."""
    if node.op_type in ("Cast", "CastLike", "Identity"):
        return lambda array: array
    if node.op_type == "Transpose":
        order = rw.attribute(node, "perm") or tuple(reversed(range(len(shape))))
        return lambda array: np.transpose(array, order)
    if node.op_type == "Flatten":
        axis = rw.attribute(node, "axis", 1)
        target = (int(np.prod(shape[:axis])), int(np.prod(shape[axis:])))
        return lambda array: _reshape(array, target)
    if len(node.inputs) == 1 and node.op_type == "Squeeze":
        return np.squeeze
    argument = rw.constant(node.inputs[1])
    return None if argument is None else _with_argument(node, shape, argument)


def _with_argument(node: ir.Node, shape: tuple[int, ...], argument: Array) -> Callable[[Array], Array]:
    numbers = tuple(int(number) for number in argument.reshape(-1))
    if node.op_type == "Squeeze":
        return lambda array: np.squeeze(array, tuple(axis % len(shape) for axis in numbers))
    if node.op_type == "Unsqueeze":
        return lambda array: np.expand_dims(array, numbers)
    if node.op_type == "Expand":
        expanded = np.broadcast_shapes(shape, numbers)
        return lambda array: np.broadcast_to(array, expanded)
    target = reshape_target(shape, argument, zero=bool(rw.attribute(node, "allowzero", 0)))
    return lambda array: _reshape(array, target)


def _reshape(array: Array, target: tuple[int, ...]) -> Array:
    if array.dtype == np.int8 and array.strides == (0,) * array.ndim:
        return np.broadcast_to(array.flat[0] if array.size else np.int8(0), target)
    return array.reshape(target)


def reshape_target(shape: tuple[int, ...], target: Array, *, zero: bool) -> tuple[int, ...]:
    """Resolve 0 and -1 in a Reshape's target for an input of this shape; ``zero`` is the attribute ``allowzero``."""
    sizes = [
        shape[index] if size == 0 and not zero else int(size) for index, size in enumerate(int(item) for item in target)
    ]
    if -1 in sizes:
        known = int(np.prod([size for size in sizes if size != -1]))
        sizes[sizes.index(-1)] = int(np.prod(shape)) // known if known else 0
    return tuple(sizes)


def _compute(node: ir.Node) -> ir.Value | None:
    given = [value for value in node.inputs if value is not None]
    graph = node.graph
    if graph is None:
        return None
    if node.op_type == "ConstantOfShape":
        return _constant_of_shape(node)
    if sum(value.const_value.size for value in given if value.const_value is not None) > _GENERIC_ELEMENTS:
        return None
    name = rw.joined(given)
    missing = [value is not None and _is_absent(value) for value in node.inputs]
    result = _evaluate(node, [_elements(*each) for each in zip(node.inputs, missing, strict=True)])
    if result is None:
        return None
    if any(missing):
        return rw.add_absent(graph, result.shape, ir.DataType.from_numpy(result.dtype), name)
    return rw.add_constant(graph, result, name)


def _elements(value: ir.Value | None, missing: bool) -> Array | None:  # noqa: FBT001  (one of a pair)
    """A constant's elements; zeros in place of missing ones give the result's shape and type."""
    if value is None or not missing:
        return None if value is None else rw.numpy_of(value)
    return np.zeros(rw.shape_of(value) or (), (value.dtype or ir.DataType.FLOAT).numpy())


def _evaluate(node: ir.Node, arrays: list[Array | None]) -> Array | None:
    """Compute a node's first output; None for what ONNX's reference implementation cannot compute."""
    operands = [array for array in arrays if array is not None]
    if node.op_type == "Concat":
        return np.concatenate(operands, axis=rw.attribute(node, "axis"))
    if node.op_type == "GatherND" and not rw.attribute(node, "batch_dims", 0):
        # The reference implementation takes element by element, which is slow for a table of every pair of positions.
        return np.asarray(operands[0][tuple(np.moveaxis(operands[1], -1, 0))])
    if node.op_type in _ARITHMETIC and np.issubdtype(operands[0].dtype, np.floating):
        with np.errstate(all="ignore"):  # the network would compute the same infinity
            result = _ARITHMETIC[node.op_type](*operands[:2])
            result = functools.reduce(_ARITHMETIC[node.op_type], operands[2:], result)
        return np.asarray(result).astype(operands[0].dtype)
    return _by_reference(node, arrays)


def _constant_of_shape(node: ir.Node) -> ir.Value | None:
    target = rw.constant(node.inputs[0])
    if target is None or node.graph is None:
        return None
    shape = tuple(int(size) for size in target)
    fill = rw.attribute(node, "value")
    item = fill.numpy().reshape(()) if fill is not None else np.zeros((), np.float32)
    dtype = fill.dtype if fill is not None else ir.DataType.FLOAT
    return rw.add_lazy(node.graph, lambda: np.full(shape, item), shape, dtype, node.outputs[0].name or "weight")


def _by_reference(node: ir.Node, arrays: list[Array | None]) -> Array | None:
    """Compute a rarer operator with ONNX's own reference implementation; None where it cannot."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    names = [f"i{index}" if array is not None else "" for index, array in enumerate(arrays)]
    proto = ir.serde.serialize_node(node)
    del proto.input[:], proto.output[:]
    proto.input.extend(names)
    proto.output.append("out")
    feeds = {name: array for name, array in zip(names, arrays, strict=True) if array is not None}
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    graph = onnx.helper.make_graph([proto], "node", inputs, [onnx.helper.make_empty_tensor_value_info("out")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    try:
        return np.asarray(ReferenceEvaluator(model).run(None, feeds)[0])
    except Exception:  # noqa: BLE001  (whatever the reference cannot compute simply stays a node)
        return None


OPSET = 20
"""The opset of the canonical form: the first with Gelu, and one that onnxruntime and the exporter both speak."""
