"""Layouts, paddings and views in another spelling."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from architecture.draft import Draft, attribute, set_attribute

if TYPE_CHECKING:
    import random

    from architecture.draft import Rewriter


def _channels_last_input(draft: Draft, _: onnx.NodeProto, rng: random.Random) -> bool:
    """The picture with its channels last; interface, not structure."""
    value = draft.graph.input[0]
    dims = value.type.tensor_type.shape.dim
    if len(dims) != 4:
        return False
    sizes = [dimension.dim_value for dimension in dims]
    for dimension, size in zip(dims, (sizes[0], *sizes[2:], sizes[1]), strict=True):
        dimension.dim_value = size
    first = draft.users(value.name)
    made = draft.node("Transpose", [value.name], perm=[0, 3, 1, 2])
    for node in first:
        node.input[:] = [made.output[0] if name == value.name else name for name in node.input]
    draft.insert(first[0], made)
    return rng is not None


def _channels_last(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """An element-wise operator run channels last, between two transposes."""
    shape = draft.shape(node.output[0])
    if len(shape) != 4 or any(draft.shape(name) != shape for name in node.input):
        return False
    turned = [draft.node("Transpose", [name], perm=[0, 2, 3, 1]) for name in node.input]
    back = draft.node("Transpose", [draft.name("value")], node.output[0], perm=[0, 3, 1, 2])
    kept = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if node.op_type == "Concat":
        kept["axis"] = {0: 0, 1: 3, 2: 1, 3: 2}[kept["axis"] % 4]
    made = draft.node(node.op_type, [item.output[0] for item in turned], back.input[0], **kept)
    draft.replace(node, *turned, made, back)
    return True


def _split_pad(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """Padding as a node of its own; before a max pool only where zeros cannot win (behind a ReLU)."""
    pads = attribute(node, "pads")
    maker = draft.producer(node.input[0])
    if not pads or not any(pads) or (node.op_type == "MaxPool" and (maker is None or maker.op_type != "Relu")):
        return False
    if attribute(node, "ceil_mode", 0):
        return False
    half = len(pads) // 2
    amounts = [0, 0, *pads[:half], 0, 0, *pads[half:]]
    inputs = [node.input[0], draft.constant(amounts, np.int64)]
    if rng.random() < 0.5:
        inputs.append(draft.constant(0.0))
    made = draft.node("Pad", inputs, mode="constant")
    set_attribute(node, "pads", [0] * len(pads))
    node.input[0] = made.output[0]
    draft.insert(node, made)
    return True


def _same_padding(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """``auto_pad`` where it means the same."""
    pads, shape = attribute(node, "pads"), draft.shape(node.input[0])
    strides = attribute(node, "strides") or [1, 1]
    if not pads or len(shape) != 4 or attribute(node, "ceil_mode", 0) or max(attribute(node, "dilations") or [1]) > 1:
        return False
    kernel = attribute(node, "kernel_shape") or list(draft.shape(node.input[1])[2:])
    for axis in range(2):
        size = shape[2 + axis]
        total = max((math.ceil(size / strides[axis]) - 1) * strides[axis] + kernel[axis] - size, 0)
        if [pads[axis], pads[axis + 2]] != [total // 2, total - total // 2]:
            return False
    for item in [item for item in node.attribute if item.name in ("pads", "auto_pad")]:
        node.attribute.remove(item)
    set_attribute(node, "auto_pad", "SAME_UPPER")
    return True


def _flatten(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """Reshape to [n, features] as Flatten, Reshape with -1, or Squeeze."""
    before, after = draft.shape(node.input[0]), draft.shape(node.output[0])
    if len(after) != 2 or len(before) < 3 or before[0] != after[0]:
        return False
    choice = rng.choice(("Flatten", "Reshape", "Squeeze"))
    if choice == "Squeeze" and before[2:] == (1,) * (len(before) - 2):
        made = draft.node(
            "Squeeze", [node.input[0], draft.constant([2, 3][: len(before) - 2], np.int64)], node.output[0]
        )
    elif choice == "Flatten":
        made = draft.node("Flatten", [node.input[0]], node.output[0], axis=1)
    else:
        target = rng.choice(([0, -1], [after[0], -1], [-1, after[1]]))
        made = draft.node("Reshape", [node.input[0], draft.constant(target, np.int64)], node.output[0])
    draft.replace(node, made)
    return True


LAYOUT: dict[str, tuple[tuple[str, ...], Rewriter]] = {
    "channels last input": ((), _channels_last_input),
    "pad node": (("Conv", "MaxPool"), _split_pad),
    "auto_pad": (("Conv", "MaxPool"), _same_padding),
    "transposes": (("Relu", "Add", "Concat", "HardSwish", "Sigmoid"), _channels_last),
    "flatten, reshape": (("Reshape", "Flatten"), _flatten),
}
"""Kinds by name, with the operators where they apply (none: the whole file)."""
