"""Slices: one spelling for parts of a tensor, for taking one element of an axis, and for merging patches."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workers.engine.graph.passes import rewriting as rw

if TYPE_CHECKING:
    import onnx_ir as ir

_PATCH = 2
"""Side of the patches that Swin merges."""


@dataclass(frozen=True)
class _Slice:
    """Bounds of a Slice by axis, within the axis: (start, end, step)."""

    source: ir.Value
    shape: tuple[int, ...]
    bounds: dict[int, tuple[int, int, int]]


def explicit_slice(model: ir.Model) -> int:
    """Write every Slice forwards with axes counted from the front, bounds within them, and a step only if it jumps."""
    changed = 0
    for node in rw.nodes(model, "Slice"):
        found = parse(node)
        if found is None or node.graph is None:
            continue
        axes = sorted(found.bounds)
        starts, ends, steps = ([found.bounds[axis][place] for axis in axes] for place in range(3))
        wanted = [starts, ends, axes, *([steps] if any(step != 1 for step in steps) else [])]
        present = [rw.constant(value) for value in node.inputs[1:]]
        if len(present) == len(wanted) and all(
            array is not None and array.tolist() == numbers for array, numbers in zip(present, wanted, strict=True)
        ):
            continue
        names = ("starts", "ends", "axes", "steps")
        given = [
            rw.add_constant(node.graph, np.asarray(numbers, np.int64), name)
            for name, numbers in zip(names, wanted, strict=False)
        ]
        shape = rw.shape_of(node.outputs[0])
        rw.replace(node.outputs[0], rw.new_node(node, "Slice", [found.source, *given], shape=shape, merged=[node]))
        changed += 1
    return changed


def parse(node: ir.Node | None) -> _Slice | None:
    """Bounds of a Slice that goes forwards; None where they are computed at run time."""
    if node is None or node.inputs[0] is None:
        return None
    shape, output = rw.shape_of(node.inputs[0]), rw.shape_of(node.outputs[0])
    given = [rw.constant(value) if value is not None else None for value in node.inputs[1:]]
    if shape is None or output is None or any(array is None for array in given[:2]) or len(given) < 2:  # noqa: PLR2004
        return None
    starts, ends = (np.atleast_1d(array).tolist() for array in given[:2])  # type: ignore[arg-type]
    if any(value is not None and array is None for value, array in zip(node.inputs[3:], given[2:], strict=True)):
        return None
    axes = np.atleast_1d(given[2]).tolist() if len(given) > 2 and given[2] is not None else list(range(len(starts)))  # noqa: PLR2004
    steps = np.atleast_1d(given[3]).tolist() if len(given) > 3 and given[3] is not None else [1] * len(starts)  # noqa: PLR2004
    bounds = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            return None
        size = shape[axis]
        first, last = (min(size, max(0, bound + size if bound < 0 else bound)) for bound in (start, end))
        bounds[axis % len(shape)] = (first, last, step)
    return _Slice(node.inputs[0], shape, bounds)


def crop_pad(model: ir.Model) -> int:
    """Write a constant Pad and the Slice that cuts some of it off again as one Pad, which may remove elements."""
    changed = 0
    for node in rw.nodes(model, "Slice"):
        pad, found, shape = rw.producer(node.inputs[0], "Pad"), parse(node), rw.shape_of(node.outputs[0])
        if pad is None or found is None or shape is None or rw.only_user(pad.outputs[0]) is None:
            continue
        pads, whole = rw.constant(pad.inputs[1]), len(pad.inputs) <= 3  # noqa: PLR2004  (data, pads, value, axes)
        constant = rw.attribute(pad, "mode", "constant") == "constant"
        if pads is None or not (whole and constant) or any(step != 1 for _, _, step in found.bounds.values()):
            continue
        cropped, rank = pads.copy(), len(found.shape)
        for axis, (start, end, _) in found.bounds.items():
            cropped[axis] -= start
            cropped[axis + rank] -= found.shape[axis] - end
        inputs = [pad.inputs[0], rw.add_constant(model.graph, cropped, "pads"), *pad.inputs[2:]]
        output = rw.new_node(node, "Pad", inputs, {"mode": "constant"}, shape=shape, merged=[pad, node])
        rw.replace(node.outputs[0], output)
        changed += 1
    return changed


def take_one(model: ir.Model) -> int:
    """Write a Slice of one element of an axis, and the view that drops the axis, as Gather of that element."""
    changed = 0
    for node in rw.nodes(model, "Reshape", "Squeeze", "Flatten"):
        slice_ = rw.producer(node.inputs[0], "Slice")
        found, shape = parse(slice_), rw.shape_of(node.outputs[0])
        if found is None or shape is None or slice_ is None or node.graph is None or len(found.bounds) != 1:
            continue
        ((axis, (start, end, _)),) = found.bounds.items()
        if end - start != 1 or shape != (*found.shape[:axis], *found.shape[axis + 1 :]):
            continue
        index = rw.add_constant(node.graph, np.asarray(start, np.int64), "indices")
        inputs = [found.source, index]
        output = rw.new_node(node, "Gather", inputs, {"axis": axis}, shape=shape, merged=[slice_, node])
        rw.replace(node.outputs[0], output)
        changed += 1
    return changed


def merge_patches(model: ir.Model) -> int:
    """Write the Concat of the four strided halves of both spatial axes (channels last) as Reshape and Transpose.

    ``concat(x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2])``: Swin's patch merging (Liu et al., ICCV
    2021), which others write as one rearrangement.
    """
    changed = 0
    for node in rw.nodes(model, "Concat"):
        parts = [_strided(value) for value in node.inputs]
        shape = rw.shape_of(node.outputs[0])
        if shape is None or len(parts) != _PATCH**2 or len(shape) != 4:  # noqa: PLR2004  (batch, height, width, channels)
            continue
        source, whole = (parts[0].source, parts[0].shape) if parts[0] is not None else (None, ())
        if source is None or len(whole) != 4 or any(part is None or part.source is not source for part in parts):  # noqa: PLR2004
            continue
        if rw.attribute(node, "axis") % 4 != 3 or whole[1] % _PATCH or whole[2] % _PATCH:  # noqa: PLR2004  (channels)
            continue
        starts = [tuple(part.bounds[axis][0] for axis in (1, 2)) for part in parts if part is not None]
        order = _ORDERS.get(tuple(starts))
        if order is None:
            continue
        batch, height, width, channels = whole
        split = (batch, height // _PATCH, _PATCH, width // _PATCH, _PATCH, channels)
        target = rw.add_constant(model.graph, np.asarray(split, np.int64), "shape")
        value = rw.new_node(node, "Reshape", [source, target], shape=split)
        turned = [split[axis] for axis in order]
        value = rw.new_node(node, "Transpose", [value], {"perm": list(order)}, shape=turned)
        target = rw.add_constant(model.graph, np.asarray(shape, np.int64), "shape")
        rw.replace(node.outputs[0], rw.new_node(node, "Reshape", [value, target], shape=shape, merged=[node]))
        changed += 1
    return changed


_ORDERS = {
    tuple((row, column) for column, row in itertools.product(range(_PATCH), repeat=2)): (0, 1, 3, 4, 2, 5),
    tuple(itertools.product(range(_PATCH), repeat=2)): (0, 1, 3, 2, 4, 5),
}
"""The order of the axes [batch, rows, row in patch, columns, column in patch, channels] by the order of the parts."""


def _strided(value: ir.Value | None) -> _Slice | None:
    """A value as every second row and column of another, through one Slice or two; None when it is none."""
    outer = parse(rw.producer(value, "Slice"))
    if outer is None:
        return None
    inner = parse(rw.producer(outer.source, "Slice")) if len(outer.bounds) == 1 else None
    bounds = dict(outer.bounds)
    source, shape = outer.source, outer.shape
    if inner is not None and not set(inner.bounds) & set(bounds):
        bounds |= inner.bounds
        source, shape = inner.source, inner.shape
    whole = all(step == _PATCH and end == shape[axis] for axis, (_, end, step) in bounds.items())
    return _Slice(source, shape, bounds) if set(bounds) == {1, 2} and whole else None
