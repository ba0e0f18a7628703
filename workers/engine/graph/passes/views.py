"""Chains of views: whatever moves elements without computing is written one way.

Attention takes its queries, keys and values out of one product by Reshape, Transpose, Gather, Slice and Split in as
many orders as there are libraries. Such a chain picks elements of its source by one formula: the source's index is
``offset + sum(position_i * stride_i)``. The same formula is the same chain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workers.engine.graph.passes import rewriting as rw
from workers.engine.graph.passes.slices import parse

if TYPE_CHECKING:
    import onnx_ir as ir

_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Gather", "Slice")

Atom = tuple[int, int]
"""Size and stride of one axis, in elements of the source."""

Step = tuple[str, tuple[int, ...]]
"""One operator of a chain: ("Reshape", shape), ("Transpose", order), ("Gather", (axis, index))."""


@dataclass
class _Picked:
    """What a chain picks of a contiguous source: axes from the outermost inwards, and where it begins."""

    atoms: list[Atom]
    offset: int
    shape: tuple[int, ...]

    def axes(self) -> list[list[Atom]] | None:
        """The atoms of each axis of the shape; None where an axis is no whole number of them."""
        found: list[list[Atom]] = []
        rest = list(self.atoms)
        for size in self.shape:
            need, own = size, []
            while need > 1:
                if not rest:
                    return None
                extent, stride = rest.pop(0)
                if need % extent == 0:
                    own.append((extent, stride))
                    need //= extent
                elif extent % need == 0:
                    own.append((need, stride * (extent // need)))
                    rest.insert(0, (extent // need, stride))
                    need = 1
                else:
                    return None
            found.append(own)
        return found


def one_view_chain(model: ir.Model) -> int:
    """Write each chain of views as Reshape, Gather, Transpose, Reshape, as many of them as it takes, in this order."""
    changed = 0
    for node in rw.nodes(model, *_VIEWS):
        output = node.outputs[0]
        if output.is_graph_output() or not any(use.node.op_type not in _VIEWS for use in output.uses()):
            continue
        chain = _chain(node)
        present = [step for step in map(_step, chain) if step is not None]
        if len(present) < len(chain) or len(chain) < 2 or not {"Transpose", "Gather"} & {name for name, _ in present}:  # noqa: PLR2004
            continue  # a view and a slice alone may be a picture's rows, rolled for shifted windows
        source = chain[0].inputs[0]
        whole, shape = rw.shape_of(source), rw.shape_of(output)
        picked = _pick(whole, chain) if whole is not None else None
        if picked is None or shape is None or whole is None or source is None:
            continue
        wanted = _steps(whole, picked, shape)
        if wanted is None or wanted == present:
            continue
        rw.replace(output, _write(source, wanted, node, chain))
        changed += 1
    return changed


def _chain(node: ir.Node) -> list[ir.Node]:
    """The views that lead to a node, first to last, and the node itself."""
    found = [node]
    while (before := rw.producer(found[0].inputs[0], *_VIEWS)) is not None:
        found.insert(0, before)
    return found


def _step(node: ir.Node) -> Step | None:
    shape = rw.shape_of(node.outputs[0])
    if shape is None:
        return None
    if node.op_type == "Transpose":
        return "Transpose", tuple(rw.attribute(node, "perm") or reversed(range(len(shape))))
    if node.op_type == "Gather":
        index = rw.constant(node.inputs[1])
        axis = rw.attribute(node, "axis", 0) % (len(shape) + 1)
        return ("Gather", (axis, int(index))) if index is not None and index.ndim == 0 else None
    return ("Slice", ()) if node.op_type == "Slice" else ("Reshape", shape)


def _pick(whole: tuple[int, ...], chain: list[ir.Node]) -> _Picked | None:
    picked: _Picked | None = _Picked([(math.prod(whole), 1)], 0, whole)
    for node in chain:
        step, axes = _step(node), picked.axes() if picked is not None else None
        if picked is None or step is None or axes is None:
            return None
        name, numbers = step
        if name == "Reshape":
            picked = _Picked([atom for axis in axes for atom in axis], picked.offset, numbers)
        elif name == "Transpose":
            turned = [axes[axis] for axis in numbers]
            shape = tuple(picked.shape[axis] for axis in numbers)
            picked = _Picked([atom for axis in turned for atom in axis], picked.offset, shape)
        elif name == "Gather":
            picked = _part(picked, axes, numbers[0], numbers[1], 1, keep=False)
        else:
            picked = _slice(picked, axes, node)
    return picked


def _slice(picked: _Picked, axes: list[list[Atom]], node: ir.Node) -> _Picked | None:
    found = parse(node)
    if found is None or len(found.bounds) != 1:
        return None
    ((axis, (start, end, step)),) = found.bounds.items()
    size = end - start
    if step != 1 or size < 1 or start % size or picked.shape[axis] % size:
        return None
    return _part(picked, axes, axis, start // size, size, keep=True)


def _part(picked: _Picked, axes: list[list[Atom]], axis: int, place: int, size: int, *, keep: bool) -> _Picked | None:
    """Take the ``place``-th of the equal parts of ``size`` elements that an axis falls into."""
    count = picked.shape[axis] // size
    halves = _Picked(axes[axis], 0, (count, size)).axes()
    if halves is None:
        return None
    offset, rest = picked.offset, place % count
    for extent, stride in reversed(halves[0]):
        offset += (rest % extent) * stride
        rest //= extent
    kept = [*axes[:axis], halves[1], *axes[axis + 1 :]]
    shape = (*picked.shape[:axis], *((size,) if keep else ()), *picked.shape[axis + 1 :])
    return _Picked([atom for item in kept for atom in item], offset, shape)


def _steps(whole: tuple[int, ...], picked: _Picked, shape: tuple[int, ...]) -> list[Step] | None:
    """The canonical chain that picks the same; None where the strides do not nest."""
    atoms = _merged(picked.atoms)
    inwards = sorted(range(len(atoms)), key=lambda index: -atoms[index][1])
    lead = 1 if whole[0] == 1 else 0
    sizes, taken, places = [1] * lead, [], []
    extent = math.prod(whole)
    for index in [*inwards, None]:
        reach = math.prod(atoms[index]) if index is not None else 1
        if extent % reach:
            return None
        if extent > reach:
            taken.append((len(sizes), (picked.offset // reach) % (extent // reach)))
            sizes.append(extent // reach)
        if index is not None:
            places.append(index)
            sizes.append(atoms[index][0])
            extent = atoms[index][1]
    steps: list[Step] = [] if tuple(sizes) == whole else [("Reshape", tuple(sizes))]
    steps += [("Gather", numbers) for numbers in reversed(taken)]
    order = [*range(lead), *(lead + places.index(index) for index in range(len(atoms)))]
    if order != sorted(order):
        steps.append(("Transpose", tuple(order)))
    after = (*([1] * lead), *(size for size, _ in atoms))
    return steps if after == shape else [*steps, ("Reshape", shape)]


def _merged(atoms: list[Atom]) -> list[Atom]:
    """Neighbouring atoms that are one axis of the source, as one."""
    found: list[Atom] = []
    for size, stride in atoms:
        if found and found[-1][1] == size * stride:
            found[-1] = (found[-1][0] * size, stride)
        elif size > 1:
            found.append((size, stride))
    return found


def _write(source: ir.Value, steps: list[Step], last: ir.Node, chain: list[ir.Node]) -> ir.Value:
    graph, value = last.graph, source
    assert graph is not None  # noqa: S101  (passes walk a graph's own nodes)
    for name, numbers in steps:
        before = rw.shape_of(value) or ()
        inputs: list[ir.Value | None] = [value]
        attributes: dict[str, object] = {}
        if name == "Reshape":
            shape = numbers
            inputs.append(rw.add_constant(graph, np.asarray(numbers, np.int64), "shape"))
        elif name == "Transpose":
            shape, attributes = tuple(before[axis] for axis in numbers), {"perm": list(numbers)}
        else:
            axis, place = numbers
            shape, attributes = (*before[:axis], *before[axis + 1 :]), {"axis": axis}
            inputs.append(rw.add_constant(graph, np.asarray(place, np.int64), "indices"))
        value = rw.new_node(last, name, inputs, attributes, shape=shape, merged=chain[-1:])
    return value
