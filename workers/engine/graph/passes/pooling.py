"""Padding and pooling: explicit pads, merged Pad nodes, one spelling for global average pooling."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from workers.engine.graph.passes import rewriting as rw

_WINDOWS = ("Conv", "MaxPool", "AveragePool")
_NON_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs")
_KEEPS_SIGN = ("MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Dropout", "Identity", "Transpose", "Reshape")


def explicit_pads(model: ir.Model) -> int:
    """Write every attribute of convolutions and pools out: kernel, strides, dilations, pads instead of ``auto_pad``."""
    return sum(_explicit(node) for node in rw.nodes(model, *_WINDOWS))


def _explicit(node: ir.Node) -> int:
    shape, output = rw.shape_of(node.inputs[0]), rw.shape_of(node.outputs[0])
    if shape is None or output is None or len(node.outputs) > 1:
        return 0
    spatial = len(shape) - 2
    kernel = rw.attribute(node, "kernel_shape") or (rw.shape_of(node.inputs[1]) or ())[2:]
    wanted = {
        "kernel_shape": tuple(kernel),
        "strides": rw.attribute(node, "strides") or (1,) * spatial,
        "dilations": rw.attribute(node, "dilations") or (1,) * spatial,
        "pads": rw.attribute(node, "pads") or (0,) * (2 * spatial),
    }
    mode = rw.attribute(node, "auto_pad", "NOTSET")
    if mode.startswith("SAME"):
        wanted["pads"] = _same_pads(shape[2:], wanted, upper=mode == "SAME_UPPER")
    full: dict[str, object] = {**wanted, "group": rw.attribute(node, "group", 1)}
    if node.op_type != "Conv":
        written = f"ceil {rw.attribute(node, 'ceil_mode', 0)} pads {list(wanted['pads'])}"
        node.metadata_props.setdefault(rw.WRITTEN, written)
        full = _pool_attributes(node, wanted, shape[2:], output[2:])
    present = {key: rw.attribute(node, key) for key in node.attributes}
    if present == full:
        return 0
    for key in list(node.attributes):
        del node.attributes[key]
    for key, value in full.items():
        node.attributes[key] = ir.convenience.convert_attribute(key, value)
    return 1


def _same_pads(sizes: tuple[int, ...], window: dict[str, tuple[int, ...]], *, upper: bool) -> tuple[int, ...]:
    """Pads of ``auto_pad`` SAME_UPPER or SAME_LOWER (ONNX, Conv)."""
    begins, ends = [], []
    for size, kernel, stride, dilation in zip(
        sizes, window["kernel_shape"], window["strides"], window["dilations"], strict=True
    ):
        total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if upper else large)
        ends.append(large if upper else small)
    return (*begins, *ends)


def _pool_attributes(
    node: ir.Node, window: dict[str, tuple[int, ...]], sizes: tuple[int, ...], outputs: tuple[int, ...]
) -> dict[str, object]:
    """A pool's attributes with exactly the end padding that its windows touch, and ``ceil_mode`` 0.

    Rounding up is the same as padding at the end, and padding that no window reaches is the same as none, as long as
    padding does not count in the average. Both hold at this input size.
    """
    spatial = len(sizes)
    needed = [
        (outputs[axis] - 1) * window["strides"][axis]
        + (window["kernel_shape"][axis] - 1) * window["dilations"][axis]
        + 1
        - sizes[axis]
        - window["pads"][axis]
        for axis in range(spatial)
    ]
    counted = node.op_type == "AveragePool" and bool(rw.attribute(node, "count_include_pad", 0))
    rounds_up = any(needed[axis] > window["pads"][axis + spatial] for axis in range(spatial))
    exact: dict[str, object] = dict(window)
    exact["ceil_mode"] = int(counted and rounds_up)
    if not exact["ceil_mode"]:
        exact["pads"] = (*window["pads"][:spatial], *(max(0, pad) for pad in needed))
    if node.op_type == "AveragePool":
        exact["count_include_pad"] = int(counted and any(window["pads"]))
    return exact


def merge_pad(model: ir.Model) -> int:
    """Merge a zero Pad into each convolution or pool behind it.

    A MaxPool pads with minus infinity, so such a Pad merges as it is, and zeros merge only where no input is negative
    (behind a ReLU). No window may lie wholly in the padding: then a repeated edge merges too, because the edge itself
    is in the window. An AveragePool then counts the padding (``count_include_pad``).
    """
    changed = 0
    for node in rw.nodes(model, "Pad"):
        spatial, mode = _spatial_pads(node), _filling(node)
        if spatial is None or mode is None:
            continue
        for user in tuple(use.node for use in node.outputs[0].uses()):
            if _may_merge(node, user, spatial, mode):
                _merge(node, user, spatial)
                changed += 1
    return changed


def _filling(node: ir.Node) -> str | None:
    """What a Pad adds: ``zero``, ``minus infinity`` or ``edge``; None for anything else."""
    mode = rw.attribute(node, "mode", "constant")
    if mode != "constant":
        return "edge" if mode == "edge" else None
    fill = node.inputs[2] if len(node.inputs) > 2 else None  # noqa: PLR2004  (data, pads, value)
    value = 0.0 if fill is None else rw.scalar(fill)
    return {0.0: "zero", -math.inf: "minus infinity"}.get(value) if value is not None else None


def _spatial_pads(node: ir.Node) -> tuple[int, ...] | None:
    """Pads of the spatial axes (begins, then ends) of a Pad that adds to nothing else and removes nothing."""
    pads = rw.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = node.inputs[3] if len(node.inputs) > 3 else None  # noqa: PLR2004  (data, pads, value, axes)
    if pads is None or axes is not None:
        return None
    half = len(pads) // 2
    if half < 3 or np.any(pads < 0) or any(pads[[0, 1, half, half + 1]]):  # noqa: PLR2004  (batch, channels, spatial)
        return None
    return tuple(int(pad) for pad in (*pads[2:half], *pads[half + 2 :]))


def _may_merge(pad: ir.Node, user: ir.Node, spatial: tuple[int, ...], mode: str) -> bool:
    if user.op_type not in _WINDOWS or user.inputs[0] is not pad.outputs[0] or user.domain != "":
        return False
    if rw.attribute(user, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return False
    if user.op_type == "Conv":
        return mode == "zero"
    kernel = rw.attribute(user, "kernel_shape")
    before = rw.attribute(user, "pads") or (0,) * len(spatial)
    half = len(kernel)
    total = [new + old for new, old in zip(spatial, before, strict=True)]
    wide = any(size >= kernel[index % half] for index, size in enumerate(total))
    if rw.attribute(user, "ceil_mode", 0) or wide or any(before):
        return False
    if mode != "zero":
        dilated = any(size > 1 for size in rw.attribute(user, "dilations", ()))
        return user.op_type == "MaxPool" and not dilated
    return user.op_type == "AveragePool" or never_negative(pad.inputs[0])


def _merge(pad: ir.Node, user: ir.Node, spatial: tuple[int, ...]) -> None:
    before = rw.attribute(user, "pads") or (0,) * len(spatial)
    pads = [new + old for new, old in zip(spatial, before, strict=True)]
    user.attributes["pads"] = ir.AttrInt64s("pads", pads)
    if user.op_type == "AveragePool":
        user.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
    user.replace_input_with(0, pad.inputs[0])


def never_negative(value: ir.Value | None, depth: int = 32) -> bool:
    """Whether a value is provably never below zero, because of what stands before it."""
    node = value.producer() if value is not None else None
    if node is None or depth == 0:
        return False
    if node.op_type in _NON_NEGATIVE:
        return True
    if node.op_type == "Clip":
        low = rw.scalar(node.inputs[1]) if len(node.inputs) > 1 else None
        return low is not None and low >= 0
    data = node.inputs if node.op_type in ("Concat", "Add", "Mul") else node.inputs[:1]
    if node.op_type in (*_KEEPS_SIGN, "Add", "Mul"):
        return all(never_negative(item, depth - 1) for item in data)
    return False


def global_pool(model: ir.Model) -> int:
    """Write a mean over all spatial axes, and a full-size AveragePool, as GlobalAveragePool; likewise the maximum."""
    return sum(
        _reduction(node) if node.op_type in _GLOBAL else _full_window(node)
        for node in rw.nodes(model, *_GLOBAL, "AveragePool")
    )


_GLOBAL = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}


def _reduction(node: ir.Node) -> int:
    shape, output = rw.shape_of(node.inputs[0]), rw.shape_of(node.outputs[0])
    axes = rw.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if shape is None or output is None or axes is None or len(shape) < 3:  # noqa: PLR2004  (batch, channels, spatial)
        return 0
    rank = len(shape)
    if sorted(int(axis) % rank for axis in axes.reshape(-1)) != list(range(2, rank)):
        return 0
    pooled_shape = (*shape[:2], *(1,) * (rank - 2))
    pooled = rw.new_node(node, _GLOBAL[node.op_type], [node.inputs[0]], shape=pooled_shape, merged=[node])
    if not rw.attribute(node, "keepdims", 1):
        pooled = rw.new_node(node, "Flatten", [pooled], {"axis": 1}, shape=output)
    rw.replace(node.outputs[0], pooled)
    return 1


def _full_window(node: ir.Node) -> int:
    shape, output = rw.shape_of(node.inputs[0]), rw.shape_of(node.outputs[0])
    if shape is None or output is None or any(size != 1 for size in output[2:]) or shape[2:] == output[2:]:
        return 0
    spatial = len(shape) - 2
    pads = rw.attribute(node, "pads") or (0,) * (2 * spatial)
    dilated = any(size != 1 for size in rw.attribute(node, "dilations") or ())
    kernel = rw.attribute(node, "kernel_shape")
    covers = all(
        kernel[axis] >= pads[axis] + size for axis, size in enumerate(shape[2:])
    )  # the window starts at the padding's edge and must reach the last element
    if dilated or not covers or (any(pads) and rw.attribute(node, "count_include_pad", 0)):
        return 0
    if not all(size == 1 for size in shape[2:]):
        window = "x".join(map(str, kernel))
        node.metadata_props.setdefault(rw.SIZED, f"averages a window of {window}, here the whole map")
    pooled = rw.new_node(node, "GlobalAveragePool", [node.inputs[0]], shape=output, merged=[node])
    rw.replace(node.outputs[0], pooled)
    return 1
