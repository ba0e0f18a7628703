"""Which nodes of a canonical graph are its interface: preprocessing at the inputs, the form of the outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.engine.graph.align import readers
from workers.engine.graph.canonical import INPUT

if TYPE_CHECKING:
    from workers.engine.graph.canonical import CanonicalGraph

_OUTPUT_FORM = {"Softmax", "LogSoftmax", "Sigmoid", "Reshape", "Flatten", "Transpose", "ArgMax", "Cast", "Squeeze"}
_PREPROCESSING = {
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Cast",
    "Transpose",
    "Reshape",
    "Resize",
    "Gather",
    "Slice",
    "Neg",
    "Concat",
}
_PRODUCTS = ("Conv", "Gemm", "MatMul")


def output_form(graph: CanonicalGraph) -> set[int]:
    """Ids of nodes after the last layer that only change how the outputs are written (probabilities, shape)."""
    followers = readers(graph)
    ends = {source for source, _ in graph.outputs}
    found: set[int] = set()
    for node in reversed(graph.nodes):
        only_form = all(reader in found for reader in followers[node.id])
        if node.op in _OUTPUT_FORM and only_form and (followers[node.id] or node.id in ends):
            found.add(node.id)
    return found


def preprocessing(graph: CanonicalGraph) -> set[int]:
    """Ids of nodes before the first layer that only prepare the picture (scale, mean, standard deviation, layout)."""
    found: set[int] = set()
    for node in graph.nodes:
        sources = [graph.nodes[source] for source, _ in node.inputs]
        if node.op in _PREPROCESSING and all(source.op == INPUT or source.id in found for source in sources):
            found.add(node.id)
    return found


def classifiers(graph: CanonicalGraph) -> set[int]:
    """Ids of the products whose result is an output, as it is or behind ``output_form`` alone."""
    form = output_form(graph)
    followers = readers(graph)
    ends = {source for source, _ in graph.outputs}
    return {
        node.id
        for node in graph.nodes
        if node.op in _PRODUCTS
        and all(reader in form for reader in followers[node.id])
        and (followers[node.id] or node.id in ends)
    }
