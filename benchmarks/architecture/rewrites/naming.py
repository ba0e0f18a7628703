"""The file written otherwise: names, order, constants, opset, nodes that do nothing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import onnx
from onnx import helper

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from architecture.draft import Draft, Rewriter


def _names(draft: Draft, _: onnx.NodeProto, rng: random.Random) -> bool:
    """Every name of nodes, values and weights drawn anew."""
    kept = {value.name for value in (*draft.graph.input, *draft.graph.output)}
    new: dict[str, str] = {"": ""}

    def drawn(name: str) -> str:
        return new.setdefault(name, name if name in kept else f"n{rng.getrandbits(48):x}")

    for node in draft.graph.node:
        node.name = f"k{rng.getrandbits(48):x}"
        del node.metadata_props[:]
        node.input[:] = [drawn(name) for name in node.input]
        node.output[:] = [drawn(name) for name in node.output]
    for tensor in draft.graph.initializer:
        old, tensor.name = tensor.name, drawn(tensor.name)
        draft.elements[tensor.name] = partial(_named, old)
    return True


def _named(name: str, weights: Callable[[str], Any]) -> Any:
    return weights(name)


def _order(draft: Draft, _: onnx.NodeProto, rng: random.Random) -> bool:
    """Another topological order of the file."""
    ready = {value.name for value in draft.graph.input} | set(draft.weights) | {""}
    pending, ordered = draft.nodes, []
    while pending:
        free = [node for node in pending if all(name in ready for name in node.input)]
        chosen = rng.choice(free)
        pending = [node for node in pending if node.name != chosen.name]
        ready |= set(chosen.output)
        ordered.append(chosen)
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del draft.graph.node[:]
    draft.graph.node.extend(ordered)
    return True


def _constant_nodes(draft: Draft, _: onnx.NodeProto, rng: random.Random) -> bool:
    """Small initializers as Constant nodes."""
    kept = [tensor for tensor in draft.graph.initializer if tensor.data_location != onnx.TensorProto.EXTERNAL]
    chosen = [tensor for tensor in kept if rng.random() < 0.5]
    for tensor in chosen:
        made = helper.make_node("Constant", [], [tensor.name], value=tensor)
        draft.graph.node.insert(0, made)
        draft.graph.initializer.remove(tensor)
    return bool(chosen)


def _opset(draft: Draft, _: onnx.NodeProto, rng: random.Random) -> bool:
    """Another opset number whose operators take the same attributes and inputs."""
    for version in rng.sample(range(9, 20), 11):
        draft.proto.opset_import[0].version = version
        if all(_same_form(node, version) for node in draft.graph.node):
            return True
    return False


def _same_form(node: onnx.NodeProto, version: int) -> bool:
    if not onnx.defs.has(node.op_type, version, ""):
        return False
    schema, newest = onnx.defs.get_schema(node.op_type, version, ""), onnx.defs.get_schema(node.op_type, 20, "")
    inputs = [item.name for item in newest.inputs]
    # Clip, Pad and the reductions took their arguments as attributes once, and Softmax coerced its input to 2-D.
    return (
        [item.name for item in schema.inputs][: len(node.input)] == inputs[: len(node.input)]
        and all(item.name in schema.attributes for item in node.attribute)
        and (node.op_type != "Softmax" or version >= 13)
        and not (node.op_type == "Resize" and version < 13)
    )


def _identity(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    op = rng.choice(("Identity", "Dropout"))
    made = draft.node(op, [node.input[0]])
    node.input[0] = made.output[0]
    draft.insert(node, made)
    return True


_ANY = ("Conv", "Relu", "Add", "Gemm", "MaxPool", "Concat", "MatMul", "Softmax", "LayerNormalization")

NAMING: dict[str, tuple[tuple[str, ...], Rewriter]] = {
    "names": ((), _names),
    "node order": ((), _order),
    "constant nodes": ((), _constant_nodes),
    "opset": ((), _opset),
    "identity, dropout": (_ANY, _identity),
}
"""Kinds by name, with the operators where they apply (none: the whole file)."""
