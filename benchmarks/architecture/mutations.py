"""Single semantic changes of an ONNX graph, drawn at random, each with the nodes where it must be reported."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx

from architecture.draft import Draft, attribute, set_attribute

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    Mutator = Callable[[Draft, random.Random], "tuple[str, ...] | None"]

_ACTIVATIONS = ("Relu", "HardSwish", "Gelu", "Sigmoid", "HardSigmoid", "Tanh")
_OTHERS = ("Relu", "Sigmoid", "Tanh", "Elu", "LeakyRelu", "HardSwish", "Softplus", "Gelu")


@dataclass(frozen=True)
class Mutant:
    """One changed model: what was changed (a mutator's name) and the names of the nodes where."""

    change: str
    places: tuple[str, ...]
    proto: onnx.ModelProto


def mutate(base: onnx.ModelProto, change: str, rng: random.Random, tries: int = 12) -> Mutant | None:
    """Apply one mutator at a random place of a prepared model.

    The result passes ONNX's strict shape inference; a change that no place of the model allows gives None.
    """
    outputs = [len(value.type.tensor_type.shape.dim) for value in base.graph.output]
    for _ in range(tries):
        draft = Draft(base)
        places = MUTATORS[change](draft, rng)
        if places is None:
            continue
        proto = _repaired(draft)
        if proto is not None and [len(value.type.tensor_type.shape.dim) for value in proto.graph.output] == outputs:
            return Mutant(change, places, proto)
    return None


def _repaired(draft: Draft, rounds: int = 40) -> onnx.ModelProto | None:
    """Fit later weights to changed channel numbers; None when the change cannot stand alone.

    A residual sum of unequal shapes, for example, would need a second change.
    """
    proto = draft.proto
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    for _ in range(rounds):
        del proto.graph.value_info[:]
        shapes: dict[str, tuple[int, ...]] = {}
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
            shapes[value.name] = tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
        if not any(_fit(draft, node, shapes) for node in draft.nodes):
            break
    try:
        return onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return None


def _fit(draft: Draft, node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Fit one node's weights to the shape of what it reads; whether anything had to change."""
    shape = shapes.get(node.input[0], ()) if node.input else ()
    if 0 in shape or len(shape) < 2:
        return False
    if node.op_type == "Conv":
        return _fit_conv(draft, node, shape[1])
    if node.op_type == "BatchNormalization" and draft.shape(node.input[1]) != (shape[1],):
        for index in range(1, 5):
            node.input[index] = draft.weight((shape[1],))
        return True
    if node.op_type == "Gemm" and attribute(node, "transB", 0) and draft.shape(node.input[1])[1] != shape[1]:
        node.input[1] = draft.weight((draft.shape(node.input[1])[0], shape[1]))
        return True
    target = draft.array(node.input[1]) if node.op_type == "Reshape" else None
    size = math.prod(shape)
    if target is not None and len(target) == 2 and target[0] == 1 and target[1] not in (-1, size):
        node.input[1] = draft.constant([1, size], "int64")
        return True
    return False


def _fit_conv(draft: Draft, node: onnx.NodeProto, channels: int) -> bool:
    dims, group = draft.shape(node.input[1]), attribute(node, "group", 1)
    before = dims[1] * group
    if before == channels:
        return False
    if group == before == dims[0] and group > 1:  # depthwise: its own filters follow
        set_attribute(node, "group", channels)
        node.input[1] = draft.weight((channels, *dims[1:]))
        if len(node.input) > 2:
            node.input[2] = draft.weight((channels,))
        return True
    if channels % group:
        return False
    node.input[1] = draft.weight((dims[0], channels // group, *dims[2:]))
    return True


def _choose(rng: random.Random, nodes: list[onnx.NodeProto]) -> onnx.NodeProto | None:
    return rng.choice(nodes) if nodes else None


def _window(draft: Draft, node: onnx.NodeProto) -> tuple[list[int], list[int], list[int], list[int]]:
    """Kernel, pads, strides and dilations, defaults written out."""
    kernel = attribute(node, "kernel_shape") or list(draft.shape(node.input[1])[2:])
    return (
        kernel,
        attribute(node, "pads") or [0] * (2 * len(kernel)),
        attribute(node, "strides") or [1] * len(kernel),
        attribute(node, "dilations") or [1] * len(kernel),
    )


def _kernel(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """A larger or smaller window with the padding that keeps the size."""
    node = _choose(
        rng, [node for node in draft.of("Conv", "MaxPool", "AveragePool") if len(_window(draft, node)[1]) == 4]
    )
    if node is None:
        return None
    kernel, pads, _, dilations = _window(draft, node)
    grow = rng.choice((2, -2))
    new_kernel = [size + grow for size in kernel]
    new_pads = [pad + grow // 2 * dilations[index % 2] for index, pad in enumerate(pads)]
    if min(new_kernel) < 1 or min(new_pads) < 0 or (max(new_kernel) == 1 and node.op_type != "Conv"):
        return None
    set_attribute(node, "kernel_shape", new_kernel)
    set_attribute(node, "pads", new_pads)
    if node.op_type == "Conv":
        node.input[1] = draft.weight((*draft.shape(node.input[1])[:2], *new_kernel))
    return (node.name,)


def _dilation(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = _choose(rng, [node for node in draft.of("Conv") if max(_window(draft, node)[0]) > 1])
    if node is None:
        return None
    kernel, pads, _, dilations = _window(draft, node)
    set_attribute(node, "dilations", [item + 1 for item in dilations])
    # Only padding that was centred stays so; a window without padding would change the size.
    set_attribute(node, "pads", [pad + (kernel[index % 2] - 1) // 2 for index, pad in enumerate(pads)])
    return (node.name,)


def _stride(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = _choose(rng, draft.of("Conv", "MaxPool", "AveragePool"))
    if node is None:
        return None
    strides = _window(draft, node)[2]
    sizes = draft.shape(node.output[0])[2:]
    if max(strides) == 1 and min(sizes, default=1) < 2:
        return None
    set_attribute(node, "strides", [2 if max(strides) == 1 else 1] * len(strides))
    return (node.name,)


def _padding(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """The window moved by one step: TensorFlow's side of the padding."""
    node = _choose(rng, [node for node in draft.of("Conv", "MaxPool") if any(_window(draft, node)[1])])
    if node is None:
        return None
    pads = _window(draft, node)[1]
    half = len(pads) // 2
    moved = [pad - (pad > 0) for pad in pads[:half]]
    set_attribute(node, "pads", [*moved, *(pads[half + axis] + pads[axis] - moved[axis] for axis in range(half))])
    return (node.name,)


def _group(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = _choose(rng, draft.of("Conv"))
    if node is None:
        return None
    dims, group = draft.shape(node.input[1]), attribute(node, "group", 1)
    new = rng.choice((2, 4)) if group == 1 else group // 2
    channels = dims[1] * group
    if channels % new or dims[0] % new:
        return None
    set_attribute(node, "group", new)
    node.input[1] = draft.weight((dims[0], channels // new, *dims[2:]))
    return (node.name,)


def _channels(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """More filters in one convolution; later weights follow."""
    node = _choose(rng, [node for node in draft.of("Conv") if attribute(node, "group", 1) == 1])
    if node is None:
        return None
    dims = draft.shape(node.input[1])
    wider = dims[0] + rng.choice((8, 16, -8))
    if wider < 8:
        return None
    node.input[1] = draft.weight((wider, *dims[1:]))
    if len(node.input) > 2:
        node.input[2] = draft.weight((wider,))
    return (node.name,)


def _activation(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    nodes = [node for node in draft.of(*_ACTIVATIONS) if not _is_silu_gate(draft, node)]
    node = _choose(rng, nodes)
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
    node = _choose(rng, [node for node in draft.of("Sigmoid") if _is_silu_gate(draft, node)])
    if node is None:
        return None
    (product,) = draft.users(node.output[0])
    made = draft.node(rng.choice(("Relu", "HardSwish", "Gelu")), [node.input[0]], product.output[0])
    draft.replace(product, made)
    draft.remove(node)
    return node.name, product.name, made.name


def _epsilon(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = _choose(rng, draft.of("BatchNormalization", "LayerNormalization"))
    if node is None:
        return None
    set_attribute(node, "epsilon", 100 * attribute(node, "epsilon", 1e-5))
    return (node.name,)


def _ceil_mode(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """Only where rounding up makes the result larger."""
    node = _choose(rng, draft.of("MaxPool", "AveragePool"))
    if node is None:
        return None
    kernel, pads, strides, dilations = _window(draft, node)
    sizes = draft.shape(node.input[0])[2:]
    spare = [
        (size + pads[axis] + pads[axis + len(sizes)] - dilations[axis] * (kernel[axis] - 1) - 1) % strides[axis]
        for axis, size in enumerate(sizes)
    ]
    if not any(spare):
        return None
    set_attribute(node, "ceil_mode", 1 - attribute(node, "ceil_mode", 0))
    return (node.name,)


def _count_include_pad(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = _choose(rng, [node for node in draft.of("AveragePool") if any(attribute(node, "pads") or ())])
    if node is None:
        return None
    set_attribute(node, "count_include_pad", 1 - attribute(node, "count_include_pad", 0))
    return (node.name,)


def _pool_kind(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = _choose(rng, draft.of("MaxPool", "AveragePool", "ReduceMean"))
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


def _removed(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """One operator less: an activation, a normalisation, a convolution or a pool that keeps the shape."""
    ops = ("Conv", "BatchNormalization", "LayerNormalization", "MaxPool", "AveragePool", *_ACTIVATIONS)
    node = _choose(rng, [node for node in draft.of(rng.choice(ops)) if not _is_silu_gate(draft, node)])
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
    node = _choose(rng, draft.of("Conv"))
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
    node = _choose(rng, draft.of("Relu", "HardSwish", "Gelu", "Add", "MaxPool"))
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


def _rewired(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """One operand of a sum, product or concatenation taken from an earlier value of the same shape."""
    node = _choose(rng, [node for node in draft.of("Add", "Concat", "Mul") if len(node.input) > 1])
    if node is None:
        return None
    place = rng.randrange(len(node.input))
    old = node.input[place]
    if old in draft.weights or len(draft.users(old)) < 2 or draft.producer(old) is None:
        return None
    pasts = draft.pasts()
    earlier: list[str] = []
    for other in draft.nodes:
        if other.name == node.name:
            break
        earlier += [name for name in other.output if draft.shape(name) == draft.shape(old)]
    # Behind the convolution of a batch-norm there is no layer's result.
    choices = [
        name
        for name in earlier
        if pasts[name] != pasts[old]
        and name not in node.input
        and not any(user.op_type == "BatchNormalization" for user in draft.users(name))
        and draft.producer(name).op_type in ("Add", "Relu", "Concat", "HardSwish", "Gelu", "MaxPool", "Conv")  # type: ignore[union-attr]
    ]
    if not choices:
        return None
    node.input[place] = rng.choice(choices)
    return (node.name,)


def _swapped(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """Two branches of a concatenation in the other order."""
    node = _choose(rng, [node for node in draft.of("Concat") if len(node.input) > 1])
    if node is None:
        return None
    first = rng.randrange(len(node.input) - 1)
    pasts = draft.pasts()
    left, right = node.input[first], node.input[first + 1]
    if pasts.get(left) == pasts.get(right) or left in draft.weights or right in draft.weights:
        return None
    node.input[first], node.input[first + 1] = right, left
    return (node.name,)


def _combined(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """A sum that becomes a product, or a product (a gate) that becomes a sum."""
    nodes = [
        node
        for node in draft.of("Add", "Mul")
        if not any(name in draft.weights for name in node.input)
        and not any((made := draft.producer(name)) is not None and _is_silu_gate(draft, made) for name in node.input)
    ]
    node = _choose(rng, nodes)
    if node is None:
        return None
    made = draft.node({"Add": "Mul", "Mul": "Add"}[node.op_type], list(node.input), node.output[0])
    draft.replace(node, made)
    return node.name, made.name


def _head(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = next(node for node in reversed(draft.nodes) if node.op_type in ("Gemm", "Conv"))
    rows, *rest = draft.shape(node.input[1])
    classes = rows + rng.choice((1, -1, 10, 1000))
    if classes < 1:
        return None
    node.input[1] = draft.weight((classes, *rest))
    if len(node.input) > 2:
        node.input[2] = draft.weight((classes,))
    return (node.name,)


def _softmax_axis(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = _choose(rng, draft.of("Softmax"))
    if node is None:
        return None
    rank = len(draft.shape(node.output[0]))
    set_attribute(node, "axis", rank - 2 if attribute(node, "axis", -1) % rank == rank - 1 else rank - 1)
    return (node.name,)


def _gelu_kind(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    node = _choose(rng, draft.of("Gelu"))
    if node is None:
        return None
    set_attribute(node, "approximate", "none" if attribute(node, "approximate") == b"tanh" else "tanh")
    return (node.name,)


MUTATORS: dict[str, Mutator] = {
    "kernel": _kernel,
    "dilation": _dilation,
    "stride": _stride,
    "padding": _padding,
    "group": _group,
    "channels": _channels,
    "activation": _activation,
    "silu": _silu,
    "epsilon": _epsilon,
    "ceil_mode": _ceil_mode,
    "count_include_pad": _count_include_pad,
    "pool_kind": _pool_kind,
    "removed": _removed,
    "removed_layer": _removed_layer,
    "inserted": _inserted,
    "rewired": _rewired,
    "swapped": _swapped,
    "combined": _combined,
    "head": _head,
    "softmax_axis": _softmax_axis,
    "gelu_kind": _gelu_kind,
}
"""Every kind of change by name."""
