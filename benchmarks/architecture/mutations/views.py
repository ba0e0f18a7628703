"""Changes of views: another resampling, channels shuffled in another order, a transposed convolution's geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from architecture.draft import Draft, attribute, choose, set_attribute

if TYPE_CHECKING:
    import random

    from architecture.draft import Mutator


def _resize_mode(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """Nearest neighbour for linear, and the other way round."""
    node = choose(rng, draft.of("Resize"))
    if node is None:
        return None
    set_attribute(node, "mode", "nearest" if attribute(node, "mode") == b"linear" else "linear")
    return (node.name,)


def _resize_corners(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """Corners aligned or not (``align_corners``)."""
    node = choose(rng, [node for node in draft.of("Resize") if attribute(node, "mode") == b"linear"])
    if node is None:
        return None
    aligned = attribute(node, "coordinate_transformation_mode") == b"align_corners"
    set_attribute(node, "coordinate_transformation_mode", "half_pixel" if aligned else "align_corners")
    return (node.name,)


def _transposed_convolution(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """A transposed convolution with another window, padding side or number of groups; its output keeps its size."""
    node = choose(rng, draft.of("ConvTranspose"))
    if node is None:
        return None
    dims, pads = draft.shape(node.input[1]), attribute(node, "pads") or [0, 0, 0, 0]
    choice = rng.choice(("window", "side", "group"))
    if choice == "window":
        set_attribute(node, "kernel_shape", [size + 2 for size in dims[2:]])
        set_attribute(node, "pads", [pad + 1 for pad in pads])
        node.input[1] = draft.weight((*dims[:2], *(size + 2 for size in dims[2:])))
    elif choice == "side":
        if not any(pads):
            return None
        set_attribute(node, "pads", [pads[0] - 1, pads[1] - 1, pads[2] + 1, pads[3] + 1])
    else:
        group = attribute(node, "group", 1)
        if dims[0] % (2 * group) or dims[1] % 2:
            return None
        set_attribute(node, "group", 2 * group)
        node.input[1] = draft.weight((dims[0], dims[1] // 2, *dims[2:]))
    return (node.name,)


def _shuffle(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """Channels shuffled from [c / g, g] in place of [g, c / g]."""
    nodes = [
        node
        for node in draft.of("Reshape")
        if len(draft.shape(node.output[0])) == 5
        and len(draft.shape(node.input[0])) == 4
        and [user.op_type for user in draft.users(node.output[0])] == ["Transpose"]
    ]
    node = choose(rng, nodes)
    if node is None:
        return None
    batch, groups, channels, *rest = draft.shape(node.output[0])
    (turn,) = draft.users(node.output[0])
    if groups == channels or attribute(turn, "perm") != [0, 2, 1, 3, 4]:
        return None
    node.input[1] = draft.constant([batch, channels, groups, *rest], "int64")
    return node.name, turn.name


VIEWS: dict[str, Mutator] = {
    "resize_mode": _resize_mode,
    "resize_corners": _resize_corners,
    "transposed_conv": _transposed_convolution,
    "shuffle": _shuffle,
}
"""Kinds by name."""
