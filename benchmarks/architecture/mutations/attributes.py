"""Changes of one attribute of one operator: windows, groups, widths, epsilons, rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from architecture.draft import Draft, attribute, choose, set_attribute, window

if TYPE_CHECKING:
    import random

    from architecture.draft import Mutator


def _kernel(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """A larger or smaller window with the padding that keeps the size."""
    node = choose(
        rng, [node for node in draft.of("Conv", "MaxPool", "AveragePool") if len(window(draft, node)[1]) == 4]
    )
    if node is None:
        return None
    kernel, pads, _, dilations = window(draft, node)
    grow = rng.choice((2, -2))
    new_kernel = [size + grow for size in kernel]
    new_pads = [pad + grow // 2 * dilations[index % 2] for index, pad in enumerate(pads)]
    if min(new_kernel) < 1 or min(new_pads) < 0 or (max(new_kernel) == 1 and node.op_type != "Conv"):
        return None
    set_attribute(node, "kernel_shape", new_kernel)
    set_attribute(node, "pads", new_pads)
    if node.op_type == "Conv":
        node.input[1] = draft.weight((*draft.shape(node.input[1])[:2], *new_kernel))
    return (node.name,)


def _dilation(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = choose(rng, [node for node in draft.of("Conv") if max(window(draft, node)[0]) > 1])
    if node is None:
        return None
    kernel, pads, _, dilations = window(draft, node)
    set_attribute(node, "dilations", [item + 1 for item in dilations])
    # Only padding that was centred stays so; a window without padding would change the size.
    set_attribute(node, "pads", [pad + (kernel[index % 2] - 1) // 2 for index, pad in enumerate(pads)])
    return (node.name,)


def _stride(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = choose(rng, draft.of("Conv", "MaxPool", "AveragePool"))
    if node is None:
        return None
    strides = window(draft, node)[2]
    sizes = draft.shape(node.output[0])[2:]
    if max(strides) == 1 and min(sizes, default=1) < 2:
        return None
    set_attribute(node, "strides", [2 if max(strides) == 1 else 1] * len(strides))
    return (node.name,)


def _padding(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """The window moved by one step: TensorFlow's side of the padding."""
    node = choose(rng, [node for node in draft.of("Conv", "MaxPool") if any(window(draft, node)[1])])
    if node is None:
        return None
    pads = window(draft, node)[1]
    half = len(pads) // 2
    moved = [pad - (pad > 0) for pad in pads[:half]]
    set_attribute(node, "pads", [*moved, *(pads[half + axis] + pads[axis] - moved[axis] for axis in range(half))])
    return (node.name,)


def _group(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = choose(rng, draft.of("Conv"))
    if node is None:
        return None
    dims, group = draft.shape(node.input[1]), attribute(node, "group", 1)
    new = rng.choice((2, 4)) if group == 1 else group // 2
    channels = dims[1] * group
    if channels % new or dims[0] % new:
        return None
    set_attribute(node, "group", new)
    node.input[1] = draft.weight((dims[0], channels // new, *dims[2:]))
    return (node.name,)


def _channels(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """More filters in one convolution; later weights follow."""
    node = choose(rng, [node for node in draft.of("Conv") if attribute(node, "group", 1) == 1])
    if node is None:
        return None
    dims = draft.shape(node.input[1])
    wider = dims[0] + rng.choice((8, 16, -8))
    if wider < 8:
        return None
    node.input[1] = draft.weight((wider, *dims[1:]))
    if len(node.input) > 2:
        node.input[2] = draft.weight((wider,))
    return (node.name,)


def _head(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """Another number of classes."""
    node = next(node for node in reversed(draft.nodes) if node.op_type in ("Gemm", "Conv", "MatMul"))
    if node.op_type == "MatMul":
        return None
    rows, *rest = draft.shape(node.input[1])
    classes = rows + rng.choice((1, -1, 10, 1000))
    if classes < 1:
        return None
    node.input[1] = draft.weight((classes, *rest))
    if len(node.input) > 2:
        node.input[2] = draft.weight((classes,))
    return (node.name,)


def _epsilon(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = choose(rng, draft.of("BatchNormalization", "LayerNormalization"))
    if node is None:
        return None
    # A hundred times 1e-12, or a hundredth of it, would be below float32's resolution.
    set_attribute(node, "epsilon", max(100 * attribute(node, "epsilon", 1e-5), rng.choice((1e-5, 1e-3))))
    return (node.name,)


def _ceil_mode(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """Only where rounding up makes the result larger."""
    node = choose(rng, draft.of("MaxPool", "AveragePool"))
    if node is None:
        return None
    kernel, pads, strides, dilations = window(draft, node)
    sizes = draft.shape(node.input[0])[2:]
    spare = [
        (size + pads[axis] + pads[axis + len(sizes)] - dilations[axis] * (kernel[axis] - 1) - 1) % strides[axis]
        for axis, size in enumerate(sizes)
    ]
    if not any(spare):
        return None
    set_attribute(node, "ceil_mode", 1 - attribute(node, "ceil_mode", 0))
    return (node.name,)


def _count_include_pad(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = choose(rng, [node for node in draft.of("AveragePool") if any(attribute(node, "pads") or ())])
    if node is None:
        return None
    set_attribute(node, "count_include_pad", 1 - attribute(node, "count_include_pad", 0))
    return (node.name,)


def _softmax_axis(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = choose(rng, draft.of("Softmax"))
    if node is None:
        return None
    rank = len(draft.shape(node.output[0]))
    set_attribute(node, "axis", rank - 2 if attribute(node, "axis", -1) % rank == rank - 1 else rank - 1)
    return (node.name,)


def _gelu_kind(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = choose(rng, draft.of("Gelu"))
    if node is None:
        return None
    set_attribute(node, "approximate", "none" if attribute(node, "approximate") == b"tanh" else "tanh")
    return (node.name,)


ATTRIBUTES: dict[str, Mutator] = {
    "kernel": _kernel,
    "dilation": _dilation,
    "stride": _stride,
    "padding": _padding,
    "group": _group,
    "channels": _channels,
    "head": _head,
    "epsilon": _epsilon,
    "ceil_mode": _ceil_mode,
    "count_include_pad": _count_include_pad,
    "softmax_axis": _softmax_axis,
    "gelu_kind": _gelu_kind,
}
"""Kinds by name."""
