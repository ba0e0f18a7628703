"""From the canonical ``onnx_ir`` model to the plain values of ``CanonicalGraph``."""

from __future__ import annotations

import ast
import hashlib
import math
from functools import cache
from typing import TYPE_CHECKING, Any

import onnx

from workers.engine.graph.canonical import COMMUTATIVE, INPUT, SIZED, CanonicalGraph, Node
from workers.engine.graph.count import KEYS
from workers.engine.graph.passes import rewriting as rw
from workers.engine.graph.passes.layout import INPUT_LAYOUT
from workers.engine.protocol import SubjectError

if TYPE_CHECKING:
    import onnx_ir as ir

_LISTED = 64
"""Integer constants up to this many elements are attributes; longer ones are named by their digest."""

_NEAR = 6
"""Steps back that tell branches apart before their whole past does."""

_IRRELEVANT = {"auto_pad", "storage_order", "stash_type", "allowzero", "momentum", "training_mode", "spatial",
               "noop_with_empty_axes", "consumed_inputs", "is_test"}  # fmt: skip
"""Attributes that change nothing in inference, or that a pass has already written out."""

_SCOPES = "pkg.torch.onnx.name_scopes"
_CLASSES = "pkg.torch.onnx.class_hierarchy"


def name_sources(model: ir.Model) -> None:
    """Write into every node's metadata what people call it: module path, weight's owner, or published node name.

    An adaptive pool to more than one element, which an exporter writes for the size at hand, is noted as such.
    """
    for node in model.graph:
        if "Pool" in node.op_type and ".Adaptive" in node.metadata_props.get(_CLASSES, ""):
            sizes = (rw.shape_of(node.outputs[0]) or ())[2:]
            # To one element it is a pool over the whole map at every size; the empty note keeps others away.
            note = f"pools adaptively to {'x'.join(map(str, sizes))}" if math.prod(sizes) > 1 else ""
            node.metadata_props.setdefault(rw.SIZED, note)
        if rw.SOURCE in node.metadata_props:
            continue  # written when the model was exported
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
        module = next((scope for scope in reversed(scopes[:-1]) if scope), None)
        name = module or _weight_owner(node) or (node.name or "").removeprefix("node_") or node.outputs[0].name
        node.metadata_props[rw.SOURCE] = str(name)


def _weight_owner(node: ir.Node) -> str | None:
    return next((owner for owner in map(rw.owner, node.inputs[1:]) if owner is not None), None)


def extract(model: ir.Model, batch: int) -> CanonicalGraph:
    """Return the plain graph of a canonical model; shapes are those of one picture (batch 1)."""
    return extract_placed(model, batch)[0]


def extract_placed(model: ir.Model, batch: int) -> tuple[CanonicalGraph, tuple[ir.Node | ir.Value, ...]]:
    """Return the plain graph, and for each of its nodes the node, or graph input, of the model that it stands for."""
    graph = model.graph
    graph.sort()
    nodes: list[Node] = []
    places: dict[int, tuple[int, int]] = {}
    for index, value in enumerate(graph.inputs):
        places[id(value)] = (len(nodes), 0)
        shape = _one_picture(rw.shape_of(value) or (), batch)
        nodes.append(Node(len(nodes), INPUT, {"index": index}, (), (), shape, value.name or "input"))
    for node in graph:
        for index, output in enumerate(node.outputs):
            places[id(output)] = (len(nodes), index)
        nodes.append(_node(len(nodes), node, places, batch))
    outputs = tuple(places[id(value)] for value in graph.outputs if id(value) in places)
    if not outputs:
        raise SubjectError("no-outputs", "the graph has no output that depends on a node; there is nothing to compare.")
    totals = {key: sum(node.counts.get(key, 0) for node in nodes) for key in KEYS}
    ordered, ends, old_places = _canonical_order(nodes, outputs)
    totals["nodes"] = sum(node.op != INPUT for node in ordered)
    layout = model.metadata_props.get(INPUT_LAYOUT, "nchw")
    items: list[ir.Node | ir.Value] = [*graph.inputs, *graph]
    found = CanonicalGraph(nodes=ordered, outputs=ends, counts=totals, input_layout=layout)
    return found, tuple(items[old] for old in old_places)


def _one_picture(shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
    return (1, *shape[1:]) if shape and shape[0] == batch else shape


def _node(number: int, node: ir.Node, places: dict[int, tuple[int, int]], batch: int) -> Node:
    shape = rw.shape_of(node.outputs[0])
    source = node.metadata_props.get(rw.SOURCE, node.name or "")
    if shape is None:
        raise SubjectError(
            "unknown-shape",
            f"unsupported: the output shape of {node.op_type} at {source!r} cannot be inferred; "
            "export the model with fixed shapes.",
        )
    shape = _one_picture(shape, batch)
    edges = tuple(places[id(value)] for value in node.inputs if value is not None and id(value) in places)
    attributes, weights = _constants(node)
    attributes = {**_attributes(node), **attributes}
    _finish(node, attributes, shape)
    counts = dict(node.meta.get(rw.COUNTS, {}))
    return Node(number, node.op_type, dict(sorted(attributes.items())), edges, weights, shape, source, counts)


@cache
def _schema(op: str) -> Any:
    return onnx.defs.get_schema(op)


def _attributes(node: ir.Node) -> dict[str, Any]:
    """Return attributes as plain values, defaults written out, negative axes counted from the front."""
    found: dict[str, Any] = {}
    for name, described in _schema(node.op_type).attributes.items():
        if described.default_value.type:
            found[name] = _plain(onnx.helper.get_attribute_value(described.default_value))
    for name, attribute in node.attributes.items():
        found[name] = _plain(attribute.value)
    rank = len(rw.shape_of(node.inputs[0]) or ()) if node.inputs else 0
    if isinstance(found.get("axis"), int) and rank:
        found["axis"] %= rank
    return {name: value for name, value in found.items() if name not in _IRRELEVANT and value not in (None, [], "")}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float):
        # Six digits: what float32 keeps of a decimal constant, so that 9.9999997e-06 reads 1e-05.
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "numpy"):
        array = value.numpy()
        return hashlib.sha256(repr((array.dtype.str, array.shape)).encode() + array.tobytes()).hexdigest()
    return str(value)


def _constants(node: ir.Node) -> tuple[dict[str, Any], tuple[tuple[int, ...], ...]]:
    """Split constant inputs into attributes (indices, bounds, scalars) and weights (their shapes)."""
    attributes: dict[str, Any] = {}
    weights: list[tuple[int, ...]] = []
    for index, value in enumerate(node.inputs):
        if value is None or value.const_value is None or value.dtype is None:
            continue
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") and index == 2:  # noqa: PLR2004  (data, weight, bias)
            continue
        if node.op_type == "BatchNormalization" and index > 1:
            continue
        name = _input_name(node, index)
        if value.dtype.is_floating_point() and (value.const_value.size > 1 or node.op_type in ("Conv", "Gemm")):
            shape = rw.shape_of(value) or ()
            while len(shape) > 1 and shape[0] == 1 and node.op_type not in ("Conv", "Gemm"):
                shape = shape[1:]  # leading axes of size 1 only broadcast
            weights.append(shape)
        elif value.const_value.size == 1:
            attributes[name] = _plain(value.const_value.numpy().reshape(()).item())
        elif value.const_value.size <= _LISTED:
            attributes[name] = _plain(value.const_value.numpy().tolist())
        else:
            attributes[name] = _plain(value.const_value)
        if index == 0 and node.op_type not in COMMUTATIVE:
            attributes["constant_operand"] = "first"
    return attributes, tuple(weights)


def _input_name(node: ir.Node, index: int) -> str:
    inputs = _schema(node.op_type).inputs
    name = str(inputs[min(index, len(inputs) - 1)].name)
    return "constant" if name in ("A", "B", "X", "Y", "data_0") else name


def _finish(node: ir.Node, attributes: dict[str, Any], shape: tuple[int, ...]) -> None:
    """Add what a product's weight says about it, and what was folded into it; complete the shapes of views."""
    weight = rw.shape_of(node.inputs[1]) if len(node.inputs) > 1 and rw.is_constant(node.inputs[1]) else None
    if node.op_type == "Reshape":
        attributes["shape"] = list(shape[1:])
    if node.op_type in ("Conv", "ConvTranspose") and weight is not None:
        attributes["output_channels"] = shape[1]
        attributes["bias"] = len(node.inputs) > 2 and node.inputs[2] is not None  # noqa: PLR2004
    if node.op_type == "Gemm" and weight is not None:
        for name in ("alpha", "beta", "transA", "transB"):
            attributes.pop(name, None)
        attributes["output_features"] = shape[-1]
        attributes["bias"] = len(node.inputs) > 2 and node.inputs[2] is not None  # noqa: PLR2004
    if node.op_type == "Pad" and attributes.get("mode") == "constant":
        attributes.setdefault("constant_value", 0.0)
    if rw.WRITTEN in node.metadata_props:
        attributes["padding_as_written"] = node.metadata_props[rw.WRITTEN]
    if node.metadata_props.get(rw.SIZED):
        attributes[SIZED] = node.metadata_props[rw.SIZED]
    if rw.EPSILON in node.metadata_props:
        attributes["batch_norm"] = True
        attributes["epsilon"] = _plain(float(node.metadata_props[rw.EPSILON]))


def _near_digests(nodes: list[Node]) -> list[str]:
    """Digest of each node and what it reads, up to ``_NEAR`` steps back."""
    labels = [node.label() for node in nodes]
    near = labels
    for _ in range(_NEAR):
        near = [
            hashlib.blake2b(
                "|".join([labels[node.id], *sorted(near[source] for source, _ in node.inputs)]).encode(), digest_size=16
            ).hexdigest()
            for node in nodes
        ]
    return near


def _canonical_order(
    nodes: list[Node], outputs: tuple[tuple[int, int], ...]
) -> tuple[tuple[Node, ...], tuple[tuple[int, int], ...], list[int]]:
    """Renumber by depth-first post-order from the outputs; the deeper operand of a commutative operator comes first.

    The order depends on structure alone. Depth and what stands near come before the digest of the whole past, because
    one local difference changes every later digest, and two branches that are summed should come in one order in both
    models all the same. The last value lists the old ids in the new order.
    """
    digests = CanonicalGraph(tuple(nodes), outputs, {}).digests
    near = _near_digests(nodes)
    depths: list[int] = []
    for node in nodes:
        depths.append(1 + max((depths[source] for source, _ in node.inputs), default=0))
    operands = [
        tuple(sorted(node.inputs, key=lambda edge: (-depths[edge[0]], near[edge[0]], digests[edge[0]], edge[1])))
        if node.op in COMMUTATIVE
        else node.inputs
        for node in nodes
    ]
    order: dict[int, int] = {}
    for end, _ in outputs:
        stack = [(end, False)]
        while stack:
            current, finished = stack.pop()
            if finished:
                order.setdefault(current, len(order))
            elif current not in order:
                stack.append((current, True))
                stack.extend((source, False) for source, _ in reversed(operands[current]))
    ordered = sorted(order, key=order.__getitem__)
    renumbered = tuple(
        Node(
            order[old],
            nodes[old].op,
            nodes[old].attributes,
            tuple((order[source], index) for source, index in operands[old]),
            nodes[old].weights,
            nodes[old].shape,
            nodes[old].source,
            nodes[old].counts,
        )
        for old in ordered
    )
    return renumbered, tuple((order[source], index) for source, index in outputs), ordered
