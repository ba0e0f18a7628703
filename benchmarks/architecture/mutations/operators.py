"""Another operator in the place of one, one operator less, one more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from architecture.draft import Draft, attribute, choose

_ACTIVATIONS = ("Relu", "HardSwish", "Gelu", "Sigmoid", "HardSigmoid", "Tanh")
_OTHERS = ("Relu", "Sigmoid", "Tanh", "Elu", "LeakyRelu", "HardSwish", "Softplus", "Gelu")

if TYPE_CHECKING:
    import random

    import onnx

    from architecture.draft import Mutator


def _activation(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    nodes = [node for node in draft.of(*_ACTIVATIONS) if not _is_silu_gate(draft, node)]
    node = choose(rng, nodes)
    if node is None:
        return None
    op = rng.choice([other for other in _OTHERS if other != node.op_type])
    made = draft.node(op, [node.input[0]], node.output[0])
    draft.replace(node, made)
    return node.name, made.name


def _is_silu_gate(draft: Draft, node: onnx.NodeProto) -> bool:
    return node.op_type in ("Sigmoid", "HardSigmoid") and any(
        user.op_type == "Mul" and node.input[0] in user.input for user in draft.users(node.output[0])
    )


def _silu(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """SiLU, which exporters write as two operators, replaced by another activation."""
    node = choose(rng, [node for node in draft.of("Sigmoid") if _is_silu_gate(draft, node)])
    if node is None:
        return None
    (product,) = draft.users(node.output[0])
    made = draft.node(rng.choice(("Relu", "HardSwish", "Gelu")), [node.input[0]], product.output[0])
    draft.replace(product, made)
    draft.remove(node)
    return node.name, product.name, made.name


def _gate(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """Another activation inside a squeeze-and-excitation block, where every channel is one number."""
    nodes = [node for node in draft.of("Relu", "Sigmoid", "HardSigmoid") if draft.shape(node.output[0])[2:] == (1, 1)]
    node = choose(rng, nodes)
    if node is None or _is_silu_gate(draft, node):
        return None
    op = rng.choice([other for other in ("Relu", "Sigmoid", "HardSigmoid", "Tanh") if other != node.op_type])
    made = draft.node(op, [node.input[0]], node.output[0])
    draft.replace(node, made)
    return node.name, made.name


def _pool_kind(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = choose(rng, draft.of("MaxPool", "AveragePool", "ReduceMean"))
    if node is None or len(draft.shape(node.input[0])) != 4:
        return None
    op = {"MaxPool": "AveragePool", "AveragePool": "MaxPool", "ReduceMean": "ReduceMax"}[node.op_type]
    kept = {item.name: attribute(node, item.name) for item in node.attribute}
    for name in ("count_include_pad", "storage_order"):
        kept.pop(name, None)
    kept = {name: value for name, value in kept.items() if not isinstance(value, bytes)}
    made = draft.node(op, list(node.input), node.output[0], **kept)
    draft.replace(node, made)
    return node.name, made.name


def _combined(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """A sum that becomes a product, or a product (a gate) that becomes a sum."""
    nodes = [
        node
        for node in draft.of("Add", "Mul")
        if not any(name in draft.weights for name in node.input)
        and not any((made := draft.producer(name)) is not None and _is_silu_gate(draft, made) for name in node.input)
    ]
    node = choose(rng, nodes)
    if node is None:
        return None
    made = draft.node({"Add": "Mul", "Mul": "Add"}[node.op_type], list(node.input), node.output[0])
    draft.replace(node, made)
    return node.name, made.name


def _removed(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """One operator less: an activation, a normalisation, a convolution or a pool that keeps the shape."""
    ops = ("Conv", "BatchNormalization", "LayerNormalization", "MaxPool", "AveragePool", *_ACTIVATIONS)
    node = choose(rng, [node for node in draft.of(rng.choice(ops)) if not _is_silu_gate(draft, node)])
    if node is None or draft.shape(node.input[0]) != draft.shape(node.output[0]) or draft.is_output(node.output[0]):
        return None
    followers = [user.op_type for user in draft.users(node.output[0])]
    if node.op_type == "Conv" and "BatchNormalization" in followers:
        return None  # half a layer; _removed_layer takes both
    maker = draft.producer(node.input[0])
    if node.op_type == "BatchNormalization" and maker is not None and maker.op_type == "Conv" and len(maker.input) > 2:
        return None  # in inference a convolution with a bias computes whatever one with batch-norm does
    draft.bypass(node)
    return (node.name,)


def _removed_layer(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """Convolution, batch-norm and activation together, where the shape stays."""
    node = choose(rng, draft.of("Conv"))
    if node is None or draft.shape(node.input[0]) != draft.shape(node.output[0]):
        return None
    layer = [node]
    for wanted in (("BatchNormalization",), ("Relu", "HardSwish", "Gelu")):
        users = draft.users(layer[-1].output[0])
        if len(users) != 1 or users[0].op_type not in wanted:
            return None
        layer.append(users[0])
    for item in layer:
        draft.bypass(item)
    return tuple(item.name for item in layer)


def _inserted(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """One operator more, behind an activation or a sum."""
    node = choose(rng, draft.of("Relu", "HardSwish", "Gelu", "Add", "MaxPool"))
    if node is None or len(draft.shape(node.output[0])) != 4 or draft.is_output(node.output[0]):
        return None
    if any(name in draft.weights for name in node.input):
        return None
    shape, value = draft.shape(node.output[0]), draft.name("value")
    op = rng.choice(("Conv", "LRN", "Tanh", "MaxPool", "BatchNormalization"))
    inputs = [value]
    attributes: dict[str, Any] = {}
    if op == "Conv":
        inputs.append(draft.weight((shape[1], shape[1], 3, 3)))
        attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    elif op == "LRN":
        attributes = {"size": 5}
    elif op == "MaxPool":
        attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    elif op == "BatchNormalization":
        inputs += [draft.weight((shape[1],)) for _ in range(4)]
    made = draft.node(op, inputs, node.output[0], **attributes)
    node.output[0] = value
    draft.insert(node, made)
    draft.remove(made)
    place = next(index for index, other in enumerate(draft.graph.node) if other.name == node.name)
    draft.graph.node.insert(place + 1, made)
    return (made.name,)


OPERATORS: dict[str, Mutator] = {
    "activation": _activation,
    "silu": _silu,
    "squeeze_excite": _gate,
    "pool_kind": _pool_kind,
    "combined": _combined,
    "removed": _removed,
    "removed_layer": _removed_layer,
    "inserted": _inserted,
}
"""Kinds by name."""
