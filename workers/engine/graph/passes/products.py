"""Matrix products: Einstein summation as MatMul, and a product whose columns are divided as one for each part."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from workers.engine.graph.passes import rewriting as rw

if TYPE_CHECKING:
    from collections.abc import Sequence

_PRODUCT = re.compile(r"([a-zA-Z]+),([a-zA-Z]+)->([a-zA-Z]+)")


def einsum_to_matmul(model: ir.Model) -> int:
    """Write an Einsum that contracts one index of two tensors as MatMul, with transposes where they are needed.

    The second operand keeps one index of its own; indices that all three share are the batch.
    """
    changed = 0
    for node in rw.nodes(model, "Einsum"):
        match = _PRODUCT.fullmatch(str(rw.attribute(node, "equation", "")).replace(" ", ""))
        sizes = _sizes(node, match.groups()) if match is not None else None
        if match is None or sizes is None:
            continue
        left, right, out = match.groups()
        batch = [index for index in out if index in left and index in right]
        rows = [index for index in out if index in left and index not in right]
        columns = [index for index in out if index in right and index not in left]
        inner = [index for index in left if index in right and index not in out]
        used = len(batch) + len(rows) + len(columns)
        if len(inner) != 1 or len(columns) != 1 or used != len(out) or (batch and len(rows) != 1) or not rows:
            continue
        if len(left) != len(batch) + len(rows) + 1 or len(right) != len(batch) + 2:
            continue
        operands = [
            _turned(node, node.inputs[0], left, [*batch, *rows, *inner], sizes),
            _turned(node, node.inputs[1], right, [*batch, *inner, *columns], sizes),
        ]
        order = [*batch, *rows, *columns]
        shape = tuple(sizes[index] for index in order)
        product = rw.new_node(node, "MatMul", operands, shape=shape, merged=[node])
        rw.replace(node.outputs[0], _turned(node, product, "".join(order), list(out), sizes))
        changed += 1
    return changed


def _sizes(node: ir.Node, terms: tuple[str, ...]) -> dict[str, int] | None:
    """Size of every index; None when a shape is unknown or an index stands twice in one term."""
    sizes: dict[str, int] = {}
    for value, term in zip(node.inputs, terms[:2], strict=True):
        shape = rw.shape_of(value)
        if shape is None or len(shape) != len(term) or len(set(term)) != len(term):
            return None
        for index, size in zip(term, shape, strict=True):
            if sizes.setdefault(index, size) != size:
                return None  # one of them is broadcast
    return sizes if len(set(terms[2])) == len(terms[2]) and set(terms[2]) <= set(sizes) else None


def _turned(
    node: ir.Node, value: ir.Value | None, have: str, want: list[str], sizes: dict[str, int]
) -> ir.Value | None:
    if list(have) == want:
        return value
    order = [have.index(index) for index in want]
    return rw.new_node(node, "Transpose", [value], {"perm": order}, shape=[sizes[index] for index in want])


@dataclass(frozen=True)
class _Factor:
    """Part of an axis of a view: so many elements, so far apart in what is viewed."""

    size: int
    stride: int


@dataclass(frozen=True)
class _Part:
    """What a Gather or a Slice takes of a product: its factors by axis, and the first column."""

    node: ir.Node
    axes: tuple[tuple[_Factor, ...], ...]
    offset: int


def divide_product(model: ir.Model) -> int:
    """Write a product whose columns are then divided (query, key and value; gate and value) as one for each part.

    Runs after counting. Only where the parts are all of the columns, each once, of all rows.
    """
    changed = 0
    for node in rw.nodes(model, "MatMul", "Gemm"):
        weight = node.inputs[1]
        shape = rw.shape_of(node.outputs[0])
        if not rw.is_constant(weight) or shape is None or len(rw.shape_of(weight) or ()) != 2:  # noqa: PLR2004
            continue
        if node.op_type == "Gemm" and set(node.attributes) != {"transB"}:
            continue
        last, bias = _bias(node, shape[-1])
        axes = [(_Factor(size, math.prod(shape[axis + 1 :])),) for axis, size in enumerate(shape)]
        parts = _parts(last.outputs[0], tuple(axes), shape[-1])
        columns = [_columns(part, shape) for part in parts or ()]
        if len(columns) < 2 or any(found is None for found in columns):  # noqa: PLR2004  (one part is no division)
            continue
        taken = np.concatenate([found for found in columns if found is not None])
        if not np.array_equal(np.sort(taken), np.arange(shape[-1])):
            continue
        for place, (part, chosen) in enumerate(zip(parts or (), columns, strict=True)):
            merged = [node, last] if place == 0 and last is not node else [node] if place == 0 else []
            _emit(part, np.asarray(chosen), (node, bias), merged)
        changed += 1
    return changed


def _bias(node: ir.Node, width: int) -> tuple[ir.Node, ir.Value | None]:
    """The node that ends a product, and the vector that it adds."""
    if node.op_type == "Gemm":
        return node, node.inputs[2] if len(node.inputs) > 2 else None  # noqa: PLR2004  (data, weight, bias)
    user = rw.only_user(node.outputs[0])
    if user is not None and user.op_type == "Add":
        other = user.inputs[1] if user.inputs[0] is node.outputs[0] else user.inputs[0]
        if rw.is_constant(other) and math.prod(rw.shape_of(other) or (0,)) == width == (rw.shape_of(other) or (0,))[-1]:
            return user, other
    return node, None


def _parts(value: ir.Value, axes: tuple[tuple[_Factor, ...], ...], width: int) -> list[_Part] | None:
    """Parts that are taken of a value through views; None when something reads all of it, or a view is not regular."""
    if value.is_graph_output() or not value.uses():
        return None
    found: list[_Part] = []
    for use in value.uses():
        node = use.node
        if use.idx != 0 or node.domain != "":
            return None
        if node.op_type in ("Gather", "Slice"):
            part = _taken(node, axes)
            if part is None:
                return None
            found.append(part)
            continue
        turned = _viewed(node, axes, width)
        inner = _parts(node.outputs[0], turned, width) if turned is not None else None
        if inner is None:
            return None
        found += inner
    return found


def _viewed(node: ir.Node, axes: tuple[tuple[_Factor, ...], ...], width: int) -> tuple[tuple[_Factor, ...], ...] | None:
    shape = rw.shape_of(node.outputs[0])
    if node.op_type == "Transpose" and rw.attribute(node, "perm") is not None:
        return tuple(axes[axis] for axis in rw.attribute(node, "perm"))
    if node.op_type not in ("Reshape", "Flatten") or shape is None:
        return None
    factors = _merged([factor for axis in axes for factor in axis], width)
    found: list[tuple[_Factor, ...]] = []
    for size in shape:
        axis: list[_Factor] = []
        while size > 1:
            factor = factors.pop(0)
            if size % factor.size == 0:
                axis.append(factor)
                size //= factor.size  # noqa: PLW2901
            elif factor.size % size == 0:
                rest = factor.size // size
                axis.append(_Factor(size, factor.stride * rest))
                factors.insert(0, _Factor(rest, factor.stride))
                break
            else:
                return None
        found.append(tuple(axis))
    return tuple(found)


def _merged(factors: list[_Factor], width: int) -> list[_Factor]:
    """Neighbours that follow each other without a step, as one; rows and columns of the product stay apart."""
    found: list[_Factor] = []
    for factor in factors:
        if factor.size == 1:
            continue
        before = found[-1] if found else None
        follows = before is not None and before.stride == factor.size * factor.stride
        if before is not None and follows and not before.stride >= width > factor.stride:
            found[-1] = _Factor(before.size * factor.size, factor.stride)
        else:
            found.append(factor)
    return found


def _taken(node: ir.Node, axes: tuple[tuple[_Factor, ...], ...]) -> _Part | None:
    """What a Gather of one element, or a Slice of one axis in steps of 1, takes."""
    given = [rw.constant(value) for value in node.inputs[1:]]
    if any(item is None or item.size != 1 for item in given):
        return None
    numbers = [int(item.reshape(())) for item in given if item is not None]
    drops = node.op_type == "Gather"
    if not drops and (len(numbers) < 3 or numbers[3:] not in ([], [1])):  # noqa: PLR2004  (start, end, axis, step)
        return None
    axis = (rw.attribute(node, "axis", 0) if drops else numbers[2]) % len(axes)
    factors = _merged(list(axes[axis]), 0)
    if len(factors) != 1 or (drops and given[0] is not None and given[0].ndim):
        return None
    (factor,) = factors
    start, end, _ = slice(numbers[0], numbers[0] + 1 or None if drops else numbers[1]).indices(factor.size)
    kept: tuple[tuple[_Factor, ...], ...] = () if drops else ((_Factor(end - start, factor.stride),),)
    return _Part(node, (*axes[:axis], *kept, *axes[axis + 1 :]), start * factor.stride)


def _columns(part: _Part, shape: tuple[int, ...]) -> np.ndarray[Any, Any] | None:
    """Columns of the product that a part takes, in order; None unless it takes them of every row."""
    width = shape[-1]
    factors = [factor for axis in part.axes for factor in axis if factor.size > 1]
    rows = math.prod(factor.size for factor in factors if factor.stride >= width)
    if rows != math.prod(shape[:-1]) or part.offset >= width:
        return None
    found = np.asarray([part.offset])
    for factor in sorted((item for item in factors if item.stride < width), key=lambda item: -item.stride):
        found = (found[:, None] + factor.stride * np.arange(factor.size)).reshape(-1)
    return found


def _emit(
    part: _Part, columns: np.ndarray[Any, Any], product: tuple[ir.Node, ir.Value | None], merged: list[ir.Node]
) -> None:
    """Put the product with these columns alone, and the views that are left, in the place of a part."""
    (node, bias), end, graph = product, part.node, part.node.graph
    shape, target = rw.shape_of(node.outputs[0]), rw.shape_of(end.outputs[0])
    if graph is None or shape is None or target is None:
        return
    gemm = node.op_type == "Gemm"
    inputs = [node.inputs[0], _selected(graph, node.inputs[1], columns, 0 if gemm else 1)]
    offset = _selected(graph, bias, columns, -1)
    shape = (*shape[:-1], len(columns))
    if gemm:
        inputs += [offset] if offset is not None else []
        value = rw.new_node(end, "Gemm", inputs, {"transB": 1}, shape=shape, merged=merged)
    else:
        value = rw.new_node(end, "MatMul", inputs, shape=shape, merged=merged)
        if offset is not None:
            value = rw.new_node(end, "Add", [value, offset], shape=shape)
    _call(value, node)
    factors = [factor for axis in part.axes for factor in axis if factor.size > 1]
    order = sorted(range(len(factors)), key=lambda place: -factors[place].stride)
    if order != sorted(order):
        value = _reshaped(end, value, [factors[place].size for place in order])
        turn = [order.index(place) for place in range(len(order))]
        sizes = [factor.size for factor in factors]
        value = rw.new_node(end, "Transpose", [value], {"perm": turn}, shape=sizes)
    if rw.shape_of(value) != target:
        value = _reshaped(end, value, target)
    rw.replace(end.outputs[0], value)


def _call(value: ir.Value, product: ir.Node) -> None:
    """Let a part, and its bias, be called what the whole product is."""
    node = value.producer()
    while node is not None and rw.SOURCE in product.metadata_props and node.op_type in ("Gemm", "MatMul", "Add"):
        node.metadata_props[rw.SOURCE] = product.metadata_props[rw.SOURCE]
        node = rw.producer(node.inputs[0], "MatMul") if node.op_type == "Add" else None


def _reshaped(before: ir.Node, value: ir.Value, shape: Sequence[int]) -> ir.Value:
    assert before.graph is not None  # noqa: S101  (passes walk a graph's own nodes)
    target = rw.add_constant(before.graph, np.asarray(shape, np.int64), "shape")
    return rw.new_node(before, "Reshape", [value, target], shape=shape)


def _selected(graph: ir.Graph, value: ir.Value | None, columns: np.ndarray[Any, Any], axis: int) -> ir.Value | None:
    if value is None:
        return None
    shape = list(rw.shape_of(value) or ())
    shape[axis] = len(columns)
    dtype = value.dtype or ir.DataType.FLOAT
    return rw.add_lazy(graph, lambda: np.take(rw.numpy_of(value), columns, axis), shape, dtype, value.name or "weight")
