"""Representation-only rewrites of an ONNX graph: another spelling of the same network, at random places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from architecture.draft import Draft
from architecture.rewrites.activations import ACTIVATIONS
from architecture.rewrites.arithmetic import ARITHMETIC
from architecture.rewrites.attention import ATTENTION
from architecture.rewrites.layers import LAYERS
from architecture.rewrites.layout import LAYOUT
from architecture.rewrites.naming import NAMING
from architecture.rewrites.views import VIEWS

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    import onnx

    from architecture.draft import Elements, Rewriter

REWRITES: dict[str, tuple[tuple[str, ...], Rewriter]] = {
    **NAMING,
    **LAYOUT,
    **VIEWS,
    **LAYERS,
    **ACTIVATIONS,
    **ARITHMETIC,
    **ATTENTION,
}
"""Every kind of rewrite: the operators where it applies (none: the whole file) and its function."""


@dataclass(frozen=True)
class Rewritten:
    """One model in another spelling, and what its new weights hold."""

    proto: onnx.ModelProto
    elements: Mapping[str, Elements]


def rewrite(base: onnx.ModelProto, kind: str, rng: random.Random) -> Rewritten | None:
    """Apply one kind of rewrite at a random share of the places that allow it; None when there is no such place."""
    draft = Draft(base)
    ops, function = REWRITES[kind]
    if not ops:
        made = int(function(draft, draft.nodes[0], rng))
    else:
        nodes = draft.of(*ops)
        rng.shuffle(nodes)
        share = rng.choice((1, len(nodes) // 4, len(nodes)))
        names = [node.name for node in nodes]
        made = 0
        for name in names:
            node = next((node for node in draft.nodes if node.name == name), None)
            if node is not None and made < max(1, share):
                made += bool(function(draft, node, rng))
    if not made:
        return None
    del draft.graph.value_info[:]
    return Rewritten(draft.proto, draft.elements)
