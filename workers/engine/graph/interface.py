"""Taking off what two models do differently at their inputs and outputs, so that what is between can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from workers.engine.graph import roles
from workers.engine.graph.canonical import INPUT, NUMERIC
from workers.engine.graph.passes import rewriting as rw
from workers.engine.protocol import SubjectError

if TYPE_CHECKING:
    from workers.engine.graph.align import Alignment
    from workers.engine.graph.canonical import CanonicalGraph, Node
    from workers.engine.graph.lockstep import Batch
    from workers.engine.graph.transplant import Placed

Ids = set[int]

_PREPARED = "zooaudit.prepared"


def strip(a: Placed, b: Placed, alignment: Alignment) -> dict[str, str]:
    """Remove differing preprocessing and output forms from both models, in place; return where they are compared.

    ``inputs`` is ``as published``, or ``after preprocessing``: the first layer of both reads the same random tensor.
    ``outputs`` is ``as published``, or ``before the output form``: the last layer's results are compared, before
    Softmax, Reshape and the like. What is removed is what the difference list names as interface. Raises SubjectError
    when the two sides cannot be cut at the same place.
    """
    sides = (a, b)
    differing = _differing(a.graph, b.graph, alignment)
    place = {"inputs": "as published", "outputs": "as published"}
    ends = [roles.output_form(side.graph) | roles.classifiers(side.graph) for side in sides]
    if any(ids & end for ids, end in zip(differing, ends, strict=True)):
        place["outputs"] = "before the output form"
        for side in sides:
            _cut_outputs(side)
    if any(ids & roles.preprocessing(side.graph) for ids, side in zip(differing, sides, strict=True)):
        place["inputs"] = "after preprocessing"
        shapes = [_cut_inputs(side) for side in sides]
        if shapes[0] != shapes[1]:
            raise SubjectError("inputs-differ", f"after preprocessing A reads {shapes[0]}, B reads {shapes[1]}.")
    for side in sides:
        rw.sweep(side.model)
    return place


def without_background(a: list[Batch], b: list[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Leave out the first class of outputs that have one class more than the other side's."""
    found: tuple[list[Batch], list[Batch]] = ([], [])
    for left, right in zip(a, b, strict=True):
        more = (left[0].shape or (0,))[-1] - (right[0].shape or (0,))[-1]
        found[0].append([array[..., 1:] for array in left] if more == 1 else left)
        found[1].append([array[..., 1:] for array in right] if more == -1 else right)
    return found


def _differing(a: CanonicalGraph, b: CanonicalGraph, alignment: Alignment) -> tuple[Ids, Ids]:
    """Ids of nodes without a partner, and of pairs that differ in operator, attributes or weights."""
    found = (set(alignment.a_only), set(alignment.b_only))
    for left, right in alignment.pairs:
        if _own(a.nodes[left]) != _own(b.nodes[right]):
            found[0].add(left)
            found[1].add(right)
    return found


def _own(node: Node) -> tuple[object, ...]:
    return node.op, {key: value for key, value in node.attributes.items() if key not in NUMERIC}, node.weights


def _cut_outputs(side: Placed) -> None:
    form = roles.output_form(side.graph)
    ends: list[ir.Value] = []
    for source, index in side.graph.outputs:
        while source in form:
            source, index = side.graph.nodes[source].inputs[0]  # noqa: PLW2901  (a walk towards the last layer)
        value = _value(side, (source, index))
        if all(value is not other for other in ends):
            ends.append(value)
    side.model.graph.outputs.clear()
    side.model.graph.outputs.extend(ends)


def _cut_inputs(side: Placed) -> tuple[int, ...]:
    """Let the network read one new input instead of what its preprocessing makes; return that input's shape."""
    graph = side.graph
    before = roles.preprocessing(graph) | {node.id for node in graph.nodes if node.op == INPUT}
    edges = {edge for node in graph.nodes if node.id not in before for edge in node.inputs if edge[0] in before}
    if len(edges) != 1:
        raise SubjectError("preprocessing-unclear", f"preprocessing hands over {len(edges)} tensors; one can be fed.")
    (edge,) = edges
    old = _value(side, edge)
    shape = rw.shape_of(old)
    if shape is None:
        raise SubjectError("preprocessing-unclear", "the preprocessed input has no static shape.")
    if not old.is_graph_input():
        new = ir.Value(name=_PREPARED, shape=ir.Shape(shape), type=ir.TensorType(old.dtype or ir.DataType.FLOAT))
        for node, index in tuple(old.uses()):
            node.replace_input_with(index, new)
        side.model.graph.inputs.clear()
        side.model.graph.inputs.append(new)
    return shape


def _value(side: Placed, edge: tuple[int, int]) -> ir.Value:
    item = side.items[edge[0]]
    return item if isinstance(item, ir.Value) else item.outputs[edge[1]]
