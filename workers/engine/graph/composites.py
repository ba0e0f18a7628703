"""Composite operators: what several nodes of the canonical graph are to a person, for the list of differences alone.

The canonical graph keeps to operators that a runtime can execute; its fingerprint does not depend on this module.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from workers.engine.graph.canonical import CanonicalGraph

if TYPE_CHECKING:
    from workers.engine.graph.canonical import Node

ATTENTION = "Attention"
"""Operator name of scaled dot-product attention of several heads."""

_VIEWS = ("Reshape", "Transpose", "Flatten", "Gather", "Slice")
_BATCHED = 4
"""Axes of attention scores: batch, heads, queries, keys."""

Edge = tuple[int, int]


def fuse(graph: CanonicalGraph) -> CanonicalGraph:
    """Return the graph with composite operators in the place of their parts.

    ``x * Sigmoid(x)`` becomes Swish (ONNX's name for SiLU since opset 24), scaled dot-product attention with the views
    around it Attention (ONNX's name since opset 23), whose number of heads is one attribute. A fused node has the
    counts of all its parts. The totals stay.
    """
    return _without_parts(*_attentions(_without_parts(*_swishes(graph))))


def _without_parts(graph: CanonicalGraph, fused: dict[int, Node], dropped: set[int]) -> CanonicalGraph:
    """Put the fused nodes in the place of the last of their parts, and leave the other parts out."""
    if not dropped:
        return graph
    place: dict[int, int] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        if node.id not in dropped:
            place[node.id] = len(kept)
            kept.append(fused.get(node.id, node))
    nodes = tuple(
        dataclasses.replace(node, id=index, inputs=tuple((place[source], output) for source, output in node.inputs))
        for index, node in enumerate(kept)
    )
    outputs = tuple((place[source], output) for source, output in graph.outputs)
    return CanonicalGraph(nodes=nodes, outputs=outputs, counts=graph.counts, input_layout=graph.input_layout)


def _readers(graph: CanonicalGraph) -> list[list[int]]:
    """Who reads each node, once for every edge; -1 stands for an output of the graph."""
    found: list[list[int]] = [[] for _ in graph.nodes]
    for node in graph.nodes:
        for source, _ in node.inputs:
            found[source].append(node.id)
    for source, _ in graph.outputs:
        found[source].append(-1)
    return found


def _counts(nodes: list[Node]) -> dict[str, int]:
    keys = dict.fromkeys(key for node in nodes for key in node.counts)
    return {key: sum(node.counts.get(key, 0) for node in nodes) for key in keys}


def _swishes(graph: CanonicalGraph) -> tuple[CanonicalGraph, dict[int, Node], set[int]]:
    readers, fused, dropped = _readers(graph), dict[int, "Node"](), set[int]()
    for node in graph.nodes:
        gate = _swish_gate(graph, node, readers)
        if gate is not None:
            dropped.add(gate.id)
            fused[node.id] = dataclasses.replace(
                node, op="Swish", attributes={}, inputs=gate.inputs, source=gate.source, counts=_counts([node, gate])
            )
    return graph, fused, dropped


def _swish_gate(graph: CanonicalGraph, node: Node, readers: list[list[int]]) -> Node | None:
    """Return the Sigmoid when ``node`` multiplies its input by it and nothing else reads it."""
    if node.op != "Mul" or len(node.inputs) != 2:  # noqa: PLR2004  (x and its gate)
        return None
    for (left, _), other in (node.inputs, tuple(reversed(node.inputs))):
        gate = graph.nodes[left]
        if gate.op == "Sigmoid" and gate.inputs == (other,) and len(readers[left]) == 1:
            return gate
    return None


def _attentions(graph: CanonicalGraph) -> tuple[CanonicalGraph, dict[int, Node], set[int]]:
    readers, fused, dropped = _readers(graph), dict[int, "Node"](), set[int]()
    for node in graph.nodes:
        core = _core(graph, node, readers) if node.op == "Softmax" else None
        if core is None:
            continue
        scores, between, result = core
        last = _last_view(graph, result, readers)
        inside = {scores.id, node.id, result.id, last.id, *(item.id for item in between)}
        inside |= _views_behind(graph, result, last)
        starts = [*scores.inputs, result.inputs[1]]
        inside |= _views_before(graph, starts, inside, readers)
        origins = [_origin(graph, edge, inside) for edge in starts]
        attributes = _attributes(node, scores, between) | {"parts": [part for _, part in origins]}
        extra = [edge for item in between for edge in item.inputs if edge[0] not in inside]
        fused[last.id] = dataclasses.replace(
            last,
            op=ATTENTION,
            attributes=attributes,
            inputs=tuple(edge for edge, _ in origins) + tuple(extra),
            weights=tuple(shape for item in between for shape in item.weights),
            source=node.source,
            counts=_counts([graph.nodes[item] for item in sorted(inside)]),
        )
        dropped |= inside - {last.id}
    return graph, fused, dropped


def _core(graph: CanonicalGraph, softmax: Node, readers: list[list[int]]) -> tuple[Node, list[Node], Node] | None:
    """The product that makes the scores, what scales and masks them, and the product that the softmax weighs."""
    between: list[Node] = []
    node = graph.nodes[softmax.inputs[0][0]]
    while node.op in ("Mul", "Add") and readers[node.id] != [-1] and len(readers[node.id]) == 1:
        between.append(node)
        node = graph.nodes[node.inputs[0][0]]
    following = readers[softmax.id]
    if node.op != "MatMul" or len(node.inputs) != 2 or len(readers[node.id]) != 1 or len(following) != 1:  # noqa: PLR2004
        return None
    result = graph.nodes[following[0]]
    reads = result.op == "MatMul" and len(result.inputs) == 2 and result.inputs[0][0] == softmax.id  # noqa: PLR2004
    return (node, between, result) if reads and following != [-1] and len(node.shape) == _BATCHED else None


def _last_view(graph: CanonicalGraph, result: Node, readers: list[list[int]]) -> Node:
    """The last of the views that put the heads beside each other again."""
    last = result
    while len(readers[last.id]) == 1 and readers[last.id] != [-1]:
        following = graph.nodes[readers[last.id][0]]
        if following.op not in ("Reshape", "Transpose", "Flatten"):
            break
        last = following
    return last


def _views_behind(graph: CanonicalGraph, result: Node, last: Node) -> set[int]:
    found: set[int] = set()
    while last.id != result.id:
        found.add(last.id)
        last = graph.nodes[last.inputs[0][0]]
    return found


def _views_before(graph: CanonicalGraph, starts: list[Edge], inside: set[int], readers: list[list[int]]) -> set[int]:
    """Views that lead to the operands and to nothing else."""
    pending, candidates = [source for source, _ in starts], set[int]()
    while pending:
        node = graph.nodes[pending.pop()]
        if node.op in _VIEWS and len(node.inputs) == 1 and node.id not in candidates:
            candidates.add(node.id)
            pending.append(node.inputs[0][0])
    found: set[int] = set()
    for item in sorted(candidates, reverse=True):  # readers have higher ids
        if all(reader in inside or reader in found for reader in readers[item]):
            found.add(item)
    return found


def _origin(graph: CanonicalGraph, edge: Edge, inside: set[int]) -> tuple[Edge, Any]:
    """Where an operand comes from, behind its views, and which part of it was taken."""
    part: Any = None
    while edge[0] in inside:
        node = graph.nodes[edge[0]]
        part = node.attributes.get("indices", node.attributes.get("starts", part))
        edge = node.inputs[0]
    return edge, part


def _attributes(softmax: Node, scores: Node, between: list[Node]) -> dict[str, Any]:
    """Heads; the scale where it is not one over the root of a head's size; the softmax's axis where not the last."""
    found: dict[str, Any] = {"heads": scores.shape[1]}
    size = scores.counts.get("macs", 0) // max(1, math.prod(scores.shape))
    factors = [item.attributes["constant"] for item in between if item.op == "Mul" and "constant" in item.attributes]
    scale = math.prod(factors)
    if not size or not math.isclose(scale, size**-0.5, rel_tol=1e-4):
        found["scale"] = scale
    masks = [item.attributes["constant"] for item in between if item.op == "Add" and "constant" in item.attributes]
    if masks:
        found["offset"] = masks
    if softmax.attributes.get("axis") != len(scores.shape) - 1:
        found["axis"] = softmax.attributes.get("axis")
    return found
