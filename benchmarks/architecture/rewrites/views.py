"""Views in another spelling: parts taken by Split, Slice or Gather, axes added and removed, values repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from architecture.draft import Draft, attribute

if TYPE_CHECKING:
    import random

    import onnx

    from architecture.draft import Rewriter


def _split(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """The parts of a Split as slices."""
    rank = len(draft.shape(node.input[0]))
    axis, start, slices = attribute(node, "axis", 0) % rank, 0, []
    for output in node.output:
        end = start + draft.shape(output)[axis]
        bounds = [draft.constant([number], np.int64) for number in (start, end, axis)]
        slices.append(draft.node("Slice", [node.input[0], *bounds], output))
        start = end
    draft.replace(node, *slices)
    return True


def _slice(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """One position of an axis as a slice of length 1 whose axis is then removed."""
    index = draft.array(node.input[1]) if node.input[1] in draft.weights else None
    if index is None or index.ndim or node.input[0] in draft.weights:
        return False
    shape = draft.shape(node.input[0])
    axis = attribute(node, "axis", 0) % len(shape)
    place = int(index) % shape[axis]
    bounds = [draft.constant([number], np.int64) for number in (place, place + 1, axis)]
    part = draft.node("Slice", [node.input[0], *bounds])
    axes = draft.constant([axis], np.int64)
    draft.replace(node, part, draft.node("Squeeze", [part.output[0], axes], node.output[0]))
    return True


def _gather(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """A slice as the positions that it takes."""
    given = [draft.array(name) if name in draft.weights else None for name in node.input[1:]]
    if len(given) < 3 or any(item is None or item.size != 1 for item in given):
        return False
    start, end, axis, step = (int(item.reshape(())) for item in (*given, np.ones(1))[:4])  # type: ignore[union-attr]
    places = list(range(draft.shape(node.input[0])[axis]))[slice(start, end, step)]
    made = draft.node("Gather", [node.input[0], draft.constant(places, np.int64)], node.output[0], axis=axis)
    draft.replace(node, made)
    return True


def _axes(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """Axes of size 1 added or removed by Unsqueeze or Squeeze where a Reshape does, and the other way round."""
    before, after = draft.shape(node.input[0]), draft.shape(node.output[0])
    if node.op_type != "Reshape":
        target = list(after)
        if rng.random() < 0.5:
            target[rng.randrange(len(target))] = -1
        made = draft.node("Reshape", [node.input[0], draft.constant(target, np.int64)], node.output[0])
    else:
        longer, shorter = (before, after) if len(before) > len(after) else (after, before)
        axes = [axis for axis, size in enumerate(longer) if size == 1][: len(longer) - len(shorter)]
        kept = tuple(size for axis, size in enumerate(longer) if axis not in axes)
        if not axes or kept != shorter:
            return False
        op = "Squeeze" if longer is before else "Unsqueeze"
        made = draft.node(op, [node.input[0], draft.constant(axes, np.int64)], node.output[0])
    draft.replace(node, made)
    return True


def _expand(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """A gate repeated over the picture before it is multiplied, which broadcasting would do."""
    whole = draft.shape(node.output[0])
    for index, name in enumerate(node.input):
        shape = draft.shape(name)
        if name in draft.weights or shape == whole or len(shape) != len(whole):
            continue
        if rng.random() < 0.5:
            made = draft.node("Expand", [name, draft.constant(whole, np.int64)])
        else:
            times = [size // old for size, old in zip(whole, shape, strict=True)]
            made = draft.node("Tile", [name, draft.constant(times, np.int64)])
        node.input[index] = made.output[0]
        draft.insert(node, made)
        return True
    return False


def _shuffle(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """A transposition done in two steps, the last axes first."""
    order = attribute(node, "perm")
    if not order or len(order) < 3:
        return False
    first = [0, *range(2, len(order)), 1]
    second = [first.index(axis) for axis in order]
    if second == sorted(second):
        return False
    turned = draft.node("Transpose", [node.input[0]], perm=first)
    draft.replace(node, turned, draft.node("Transpose", [turned.output[0]], node.output[0], perm=second))
    return True


VIEWS: dict[str, tuple[tuple[str, ...], Rewriter]] = {
    "split, slice": (("Split",), _split),
    "gather, slice": (("Gather",), _slice),
    "slice, gather": (("Slice",), _gather),
    "squeeze, unsqueeze": (("Reshape", "Squeeze", "Unsqueeze"), _axes),
    "expand, tile": (("Mul", "Add"), _expand),
    "transposes in steps": (("Transpose",), _shuffle),
}
"""Kinds by name, with the operators where they apply (none: the whole file)."""
