"""Whether two networks are alike at one input size alone, by what the canonical form had to use that size for.

The size of the picture is fixed when a model is exported. Some spellings become equal only then: a window as large as
the map is a pool over the whole map, a convolution as large as the map is a dense layer. Where a pass used that, it
left a note (``rewriting.SIZED``), which is compared here; what fits one size alone is read off the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.engine.graph.canonical import INPUT, SIZED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.engine.graph.align import Alignment
    from workers.engine.graph.canonical import CanonicalGraph, Node

_TOKENS, _WINDOWS = 3, 5
"""Axes of [batch, tokens, channels], and of [batch, windows, heads, query, key]."""


def input_sizes(a: CanonicalGraph, b: CanonicalGraph, alignment: Alignment, *, structural: bool) -> dict[str, Any]:
    """Say at which input sizes two graphs were compared, and whether what they share holds only there.

    ``compared_at`` gives each side's input without the batch, channels first. ``holds_only_there`` is null where a
    structural difference leaves nothing to hold. ``because`` lists sentences about sides A and B; without one, nothing
    in the graphs ties them to the size.
    """
    reasons = [] if structural else [*_unlike_notes(a, b, alignment), *_fixed(a, "A"), *_fixed(b, "B")]
    return {
        "compared_at": {side: _input_shape(graph) for side, graph in (("a", a), ("b", b))},
        "holds_only_there": None if structural else bool(reasons),
        "because": reasons,
    }


def _input_shape(graph: CanonicalGraph) -> list[int]:
    return next((list(node.shape[1:]) for node in graph.nodes if node.op == INPUT), [])


def _unlike_notes(a: CanonicalGraph, b: CanonicalGraph, alignment: Alignment) -> Iterator[str]:
    """Layers that one side writes for this size and the other does not, or otherwise."""
    for left, right in alignment.pairs:
        notes = [graph.nodes[item].attributes.get(SIZED) for graph, item in ((a, left), (b, right))]
        if notes[0] != notes[1]:
            sides = (("A", notes[0], a.nodes[left]), ("B", notes[1], b.nodes[right]))
            yield "; ".join(f"{side} {note} ({node.source})" for side, note, node in sides if note)


def _fixed(graph: CanonicalGraph, side: str) -> Iterator[str]:
    """Layers whose weights fit one input size alone; the first of each kind stands for all."""
    made: set[str] = set()
    for node in graph.nodes:
        for kind, text in (("dense", _dense(graph, node)), ("table", _table(node))):
            if text is not None and kind not in made:
                made.add(kind)
                yield f"{side} {text}, made for this size ({node.source})"


def _dense(graph: CanonicalGraph, node: Node) -> str | None:
    """A dense layer that reads every element of a map, unless something before it makes the map that large."""
    if node.op != "Gemm" or SIZED in node.attributes or not node.inputs:
        return None
    view = graph.nodes[node.inputs[0][0]]
    if view.op != "Flatten":
        return None
    source = graph.nodes[view.inputs[0][0]]
    if SIZED in source.attributes or sum(size > 1 for size in source.shape[1:]) < 2:  # noqa: PLR2004  (a vector)
        return None
    return f"reads a map of {_times(source.shape[1:])} with a dense layer"


def _table(node: Node) -> str | None:
    """A table with a row for every token of the picture, or a mask for every window."""
    if node.op != "Add" or len(node.weights) != 1:
        return None
    (table,) = node.weights
    tokens = len(node.shape) == _TOKENS and table == node.shape[1:]
    windows = len(node.shape) == _WINDOWS and len(table) == _WINDOWS - 1 and table[0] == node.shape[1] > 1
    return f"adds a table of {_times(table)}" if tokens or windows else None


def _times(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))
