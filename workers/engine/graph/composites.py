"""Composite operators: what several nodes of the canonical graph are to a person, for the list of differences alone.

The canonical graph keeps to operators that a runtime can execute; its fingerprint does not depend on this module.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from workers.engine.graph.canonical import CanonicalGraph

if TYPE_CHECKING:
    from workers.engine.graph.canonical import Node


def fuse(graph: CanonicalGraph) -> CanonicalGraph:
    """Return the graph with ``x * Sigmoid(x)`` as one node Swish (ONNX's name for SiLU since opset 24).

    A fused node has the counts of all its parts and the source name of the first. The totals stay.
    """
    users: list[int] = [0] * len(graph.nodes)
    for node in graph.nodes:
        for source, _ in node.inputs:
            users[source] += 1
    for source, _ in graph.outputs:
        users[source] += 1
    dropped: set[int] = set()
    fused: dict[int, Node] = {}
    for node in graph.nodes:
        gate = _swish_gate(graph, node, users)
        if gate is not None:
            dropped.add(gate.id)
            counts = {key: gate.counts.get(key, 0) + number for key, number in node.counts.items()}
            fused[node.id] = dataclasses.replace(
                node, op="Swish", attributes={}, inputs=gate.inputs, source=gate.source, counts=counts
            )
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


def _swish_gate(graph: CanonicalGraph, node: Node, users: list[int]) -> Node | None:
    """Return the Sigmoid when ``node`` multiplies its input by it and nothing else reads it."""
    if node.op != "Mul" or len(node.inputs) != 2:  # noqa: PLR2004  (x and its gate)
        return None
    for (left, _), other in (node.inputs, tuple(reversed(node.inputs))):
        gate = graph.nodes[left]
        if gate.op == "Sigmoid" and gate.inputs == (other,) and users[left] == 1:
            return gate
    return None
