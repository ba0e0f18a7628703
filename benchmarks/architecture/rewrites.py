"""Representation-only rewrites of an ONNX graph: another spelling of the same network, at random places."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from architecture.draft import Draft, attribute, set_attribute

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    Rewriter = Callable[[Draft, onnx.NodeProto, random.Random], bool]


def rewrite(base: onnx.ModelProto, kind: str, rng: random.Random) -> onnx.ModelProto | None:
    """Apply one kind of rewrite at a random share of the places that allow it; None when there is no such place."""
    draft = Draft(base)
    ops, function = REWRITES[kind]
    if not ops:
        made = function(draft, draft.nodes[0], rng)
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
    return draft.proto


def _image(draft: Draft, name: str) -> bool:
    return len(draft.shape(name)) == 4


def _identity(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    op = rng.choice(("Identity", "Dropout"))
    made = draft.node(op, [node.input[0]])
    node.input[0] = made.output[0]
    draft.insert(node, made)
    return True


def _commuted(_draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    if len(node.input) != 2:
        return False
    node.input[0], node.input[1] = node.input[1], node.input[0]
    return True


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
        tensor.name = drawn(tensor.name)
    return True


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


def _folded_batch_norm(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    conv = draft.producer(node.input[0])
    if conv is None or conv.op_type != "Conv" or len(draft.users(conv.output[0])) != 1 or len(conv.input) > 2:
        return False
    conv.input.append(draft.weight(draft.shape(node.input[1])))
    conv.output[0] = node.output[0]
    draft.remove(node)
    return True


def _arithmetic_batch_norm(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """As Keras writes it on its torch backend."""
    shape = draft.shape(node.output[0])
    scale, bias, mean, variance = (draft.weight((1, shape[1], *(1,) * (len(shape) - 2))) for _ in range(4))
    epsilon = draft.constant(attribute(node, "epsilon", 1e-5))
    centred = draft.node("Sub", [node.input[0], mean])
    total = draft.node("Add", [variance, epsilon])
    root = draft.node("Sqrt", [total.output[0]])
    inverse = draft.node("Reciprocal", [root.output[0]])
    factor = draft.node("Mul", [inverse.output[0], scale])
    scaled = draft.node("Mul", [centred.output[0], factor.output[0]])
    shifted = draft.node("Add", [scaled.output[0], bias], node.output[0])
    draft.replace(node, centred, total, root, inverse, factor, scaled, shifted)
    return True


def _split_pad(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """Padding as a node of its own; before a max pool only where zeros cannot win (behind a ReLU)."""
    pads = attribute(node, "pads")
    maker = draft.producer(node.input[0])
    if not pads or not any(pads) or (node.op_type == "MaxPool" and (maker is None or maker.op_type != "Relu")):
        return False
    if attribute(node, "ceil_mode", 0):
        return False
    half = len(pads) // 2
    amounts = [0, 0, *pads[:half], 0, 0, *pads[half:]]
    inputs = [node.input[0], draft.constant(amounts, np.int64)]
    if rng.random() < 0.5:
        inputs.append(draft.constant(0.0))
    made = draft.node("Pad", inputs, mode="constant")
    set_attribute(node, "pads", [0] * len(pads))
    node.input[0] = made.output[0]
    draft.insert(node, made)
    return True


def _same_padding(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """``auto_pad`` where it means the same."""
    pads, shape = attribute(node, "pads"), draft.shape(node.input[0])
    strides = attribute(node, "strides") or [1, 1]
    if not pads or len(shape) != 4 or attribute(node, "ceil_mode", 0) or max(attribute(node, "dilations") or [1]) > 1:
        return False
    kernel = attribute(node, "kernel_shape") or list(draft.shape(node.input[1])[2:])
    for axis in range(2):
        size = shape[2 + axis]
        total = max((math.ceil(size / strides[axis]) - 1) * strides[axis] + kernel[axis] - size, 0)
        if [pads[axis], pads[axis + 2]] != [total // 2, total - total // 2]:
            return False
    for item in [item for item in node.attribute if item.name in ("pads", "auto_pad")]:
        node.attribute.remove(item)
    set_attribute(node, "auto_pad", "SAME_UPPER")
    return True


def _channels_last(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """An element-wise operator run channels last, between two transposes."""
    shape = draft.shape(node.output[0])
    if len(shape) != 4 or any(draft.shape(name) != shape for name in node.input):
        return False
    turned = [draft.node("Transpose", [name], perm=[0, 2, 3, 1]) for name in node.input]
    back = draft.node("Transpose", [draft.name("value")], node.output[0], perm=[0, 3, 1, 2])
    kept = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if node.op_type == "Concat":
        kept["axis"] = {0: 0, 1: 3, 2: 1, 3: 2}[kept["axis"] % 4]
    made = draft.node(node.op_type, [item.output[0] for item in turned], back.input[0], **kept)
    draft.replace(node, *turned, made, back)
    return True


def _channels_last_input(draft: Draft, _: onnx.NodeProto, rng: random.Random) -> bool:
    """The picture with its channels last; interface, not structure."""
    value = draft.graph.input[0]
    dims = value.type.tensor_type.shape.dim
    if len(dims) != 4:
        return False
    sizes = [dimension.dim_value for dimension in dims]
    for dimension, size in zip(dims, (sizes[0], *sizes[2:], sizes[1]), strict=True):
        dimension.dim_value = size
    first = draft.users(value.name)
    made = draft.node("Transpose", [value.name], perm=[0, 3, 1, 2])
    for node in first:
        node.input[:] = [made.output[0] if name == value.name else name for name in node.input]
    draft.insert(first[0], made)
    return rng is not None


def _matmul(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """Gemm as MatMul + Add, or with its matrix the other way round."""
    if not attribute(node, "transB", 0) or len(node.input) < 3 or node.input[1] not in draft.weights:
        return False
    rows, columns = draft.shape(node.input[1])
    matrix = draft.weight((columns, rows))
    if rng.random() < 0.5:
        made = draft.node("Gemm", [node.input[0], matrix, node.input[2]], node.output[0])
        draft.replace(node, made)
        return True
    product = draft.node("MatMul", [node.input[0], matrix])
    draft.replace(node, product, draft.node("Add", [product.output[0], node.input[2]], node.output[0]))
    return True


def _conv_head(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """A dense head as a 1x1 convolution."""
    if not draft.is_output(node.output[0]) or not attribute(node, "transB", 0) or len(draft.shape(node.input[0])) != 2:
        return False
    rows, columns = draft.shape(node.input[1])
    batch = draft.shape(node.input[0])[0]
    view = draft.node("Reshape", [node.input[0], draft.constant([batch, columns, 1, 1], np.int64)])
    conv = draft.node("Conv", [view.output[0], draft.weight((rows, columns, 1, 1)), *node.input[2:]])
    draft.replace(node, view, conv, draft.node("Flatten", [conv.output[0]], node.output[0], axis=1))
    return True


def _flatten(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """Reshape to [n, features] as Flatten, Reshape with -1, or Squeeze."""
    before, after = draft.shape(node.input[0]), draft.shape(node.output[0])
    if len(after) != 2 or len(before) < 3 or before[0] != after[0]:
        return False
    choice = rng.choice(("Flatten", "Reshape", "Squeeze"))
    if choice == "Squeeze" and before[2:] == (1,) * (len(before) - 2):
        made = draft.node(
            "Squeeze", [node.input[0], draft.constant([2, 3][: len(before) - 2], np.int64)], node.output[0]
        )
    elif choice == "Flatten":
        made = draft.node("Flatten", [node.input[0]], node.output[0], axis=1)
    else:
        target = rng.choice(([0, -1], [after[0], -1], [-1, after[1]]))
        made = draft.node("Reshape", [node.input[0], draft.constant(target, np.int64)], node.output[0])
    draft.replace(node, made)
    return True


def _global_pool(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    shape, output = draft.shape(node.input[0]), draft.shape(node.output[0])
    if len(shape) != 4 or len(output) != 4 or output[2:] != (1, 1):
        return False
    if rng.random() < 0.5:
        made = draft.node("GlobalAveragePool", [node.input[0]], node.output[0])
    else:
        made = draft.node("AveragePool", [node.input[0]], node.output[0], kernel_shape=list(shape[2:]))
    draft.replace(node, made)
    return True


def _relu(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    zero = draft.constant(0.0)
    choice = rng.choice(("Clip", "Max"))
    draft.replace(node, draft.node(choice, [node.input[0], zero], node.output[0]))
    return True


def _clip(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """Bounds as Max and Min, in either order."""
    if len(node.input) != 3:
        return False
    bounds = [("Max", node.input[1]), ("Min", node.input[2])]
    rng.shuffle(bounds)
    first = draft.node(bounds[0][0], [node.input[0], bounds[0][1]])
    draft.replace(node, first, draft.node(bounds[1][0], [first.output[0], bounds[1][1]], node.output[0]))
    return True


def _hard_swish(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    x = node.input[0]
    if rng.random() < 0.5:
        gate = draft.node("HardSigmoid", [x], alpha=1 / 6, beta=0.5)
        draft.replace(node, gate, draft.node("Mul", [x, gate.output[0]], node.output[0]))
        return True
    parts = _hard_gate(draft, x, None)
    draft.replace(node, *parts, draft.node("Mul", [parts[-1].output[0], x], node.output[0]))
    return True


def _hard_gate(draft: Draft, x: str, output: str | None) -> list[onnx.NodeProto]:
    shifted = draft.node("Add", [x, draft.constant(3.0)])
    clipped = draft.node("Clip", [shifted.output[0], draft.constant(0.0), draft.constant(6.0)])
    return [shifted, clipped, draft.node("Div", [clipped.output[0], draft.constant(6.0)], output)]


def _hard_sigmoid(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    if not math.isclose(attribute(node, "alpha", 0.2), 1 / 6, rel_tol=1e-4):
        return False
    draft.replace(node, *_hard_gate(draft, node.input[0], node.output[0]))
    return True


def _sigmoid(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """``1 / (1 + exp(-x))``, and SiLU with it as ``x / (1 + exp(-x))``."""
    x = node.input[0]
    negative = draft.node("Neg", [x])
    power = draft.node("Exp", [negative.output[0]])
    total = draft.node("Add", [power.output[0], draft.constant(1.0)])
    users = draft.users(node.output[0])
    if len(users) == 1 and users[0].op_type == "Mul" and x in users[0].input and rng.random() < 0.5:
        draft.replace(node, negative, power, total)
        draft.replace(users[0], draft.node("Div", [x, total.output[0]], users[0].output[0]))
        return True
    draft.replace(
        node, negative, power, total, draft.node("Div", [draft.constant(1.0), total.output[0]], node.output[0])
    )
    return True


def _gelu(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    if attribute(node, "approximate", b"none") != b"none":
        return False
    x, out = node.input[0], node.output[0]
    if rng.random() < 0.5:
        scaled = draft.node("Div", [x, draft.constant(math.sqrt(2))])
    else:
        scaled = draft.node("Mul", [x, draft.constant(math.sqrt(0.5))])
    erf = draft.node("Erf", [scaled.output[0]])
    one = draft.node("Add", [erf.output[0], draft.constant(1.0)])
    half = draft.constant(0.5)
    if rng.random() < 0.5:
        first = draft.node("Mul", [x, one.output[0]])
        draft.replace(node, scaled, erf, one, first, draft.node("Mul", [first.output[0], half], out))
    else:
        first = draft.node("Mul", [x, half])
        draft.replace(node, scaled, erf, one, first, draft.node("Mul", [first.output[0], one.output[0]], out))
    return True


def _gelu_tanh(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """The approximation step by step; the graph it is compared with has Gelu with ``approximate="tanh"``."""
    x = node.input[0]
    if attribute(node, "approximate", b"none") != b"tanh":
        return False
    cube = [draft.node("Pow", [x, draft.constant(3.0)])]
    if rng.random() < 0.5:
        square = draft.node("Mul", [x, x])
        cube = [square, draft.node("Mul", [square.output[0], x])]
    small = draft.node("Mul", [cube[-1].output[0], draft.constant(0.044715)])
    inner = draft.node("Add", [x, small.output[0]])
    scaled = draft.node("Mul", [inner.output[0], draft.constant(math.sqrt(2 / math.pi))])
    tanh = draft.node("Tanh", [scaled.output[0]])
    one = draft.node("Add", [tanh.output[0], draft.constant(1.0)])
    half = draft.node("Mul", [x, draft.constant(0.5)])
    last = draft.node("Mul", [half.output[0], one.output[0]], node.output[0])
    draft.replace(node, *cube, small, inner, scaled, tanh, one, half, last)
    return True


def _layer_norm(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """Mean, variance and scaling one by one, as frameworks wrote it before opset 17."""
    shape = draft.shape(node.input[0])
    if attribute(node, "axis", -1) % len(shape) != len(shape) - 1 or len(node.input) < 3:
        return False
    x, axes = node.input[0], draft.constant([-1], np.int64)
    mean = draft.node("ReduceMean", [x, axes])
    centred = draft.node("Sub", [x, mean.output[0]])
    if rng.random() < 0.5:
        square = draft.node("Pow", [centred.output[0], draft.constant(2.0)])
    else:
        square = draft.node("Mul", [centred.output[0], centred.output[0]])
    variance = draft.node("ReduceMean", [square.output[0], axes])
    total = draft.node("Add", [variance.output[0], draft.constant(attribute(node, "epsilon", 1e-5))])
    root = draft.node("Sqrt", [total.output[0]])
    divided = draft.node("Div", [centred.output[0], root.output[0]])
    scaled = draft.node("Mul", [divided.output[0], node.input[1]])
    shifted = draft.node("Add", [scaled.output[0], node.input[2]], node.output[0])
    draft.replace(node, mean, centred, square, variance, total, root, divided, scaled, shifted)
    return True


def _attention_scale(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """The scale of the scores on the scores themselves, as one factor or divisor, instead of half on either operand."""
    product = draft.producer(node.input[0])
    if product is None or product.op_type != "MatMul":
        return False
    scale = 1.0
    for index, name in enumerate(product.input):
        maker = draft.producer(name)
        constant = maker and maker.op_type == "Mul" and len(maker.input) == 2 and draft.array(maker.input[1])
        if maker is None or not isinstance(constant, np.ndarray) or constant.size != 1:
            return False
        scale *= float(constant.reshape(()))
        product.input[index] = maker.input[0]
    if rng.random() < 0.5:
        made = draft.node("Mul", [product.output[0], draft.constant(scale)])
    else:
        made = draft.node("Div", [product.output[0], draft.constant(1 / scale)])
    node.input[0] = made.output[0]
    draft.insert(node, made)
    return True


def _sum(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    if draft.shape(node.input[0]) != draft.shape(node.input[1]):
        return False
    draft.replace(node, draft.node("Sum", list(node.input), node.output[0]))
    return True


def _conv_bias(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """A convolution's bias as an Add behind it."""
    if len(node.input) < 3:
        return False
    channels = draft.shape(node.input[1])[0]
    made = draft.node("Add", [draft.name("value"), draft.weight((1, channels, 1, 1))], node.output[0])
    bare = draft.node(
        "Conv",
        list(node.input[:2]),
        made.input[0],
        **{item.name: helper.get_attribute_value(item) for item in node.attribute},
    )
    draft.replace(node, bare, made)
    return True


_ANY = ("Conv", "Relu", "Add", "Gemm", "MaxPool", "Concat", "MatMul", "Softmax", "LayerNormalization")

REWRITES: dict[str, tuple[tuple[str, ...], Rewriter]] = {
    "names": ((), _names),
    "node order": ((), _order),
    "constant nodes": ((), _constant_nodes),
    "opset": ((), _opset),
    "channels last input": ((), _channels_last_input),
    "identity, dropout": (_ANY, _identity),
    "commuted operands": (("Add", "Mul"), _commuted),
    "batch-norm folded": (("BatchNormalization",), _folded_batch_norm),
    "batch-norm arithmetic": (("BatchNormalization",), _arithmetic_batch_norm),
    "pad node": (("Conv", "MaxPool"), _split_pad),
    "auto_pad": (("Conv", "MaxPool"), _same_padding),
    "transposes": (("Relu", "Add", "Concat", "HardSwish", "Sigmoid"), _channels_last),
    "matmul, gemm": (("Gemm",), _matmul),
    "convolutional head": (("Gemm",), _conv_head),
    "flatten, reshape": (("Reshape", "Flatten"), _flatten),
    "global pool": (("ReduceMean",), _global_pool),
    "relu": (("Relu",), _relu),
    "clip": (("Clip",), _clip),
    "hard-swish": (("HardSwish",), _hard_swish),
    "hard sigmoid": (("HardSigmoid",), _hard_sigmoid),
    "sigmoid, silu": (("Sigmoid",), _sigmoid),
    "gelu": (("Gelu",), _gelu),
    "gelu tanh": (("Gelu",), _gelu_tanh),
    "layer norm": (("LayerNormalization",), _layer_norm),
    "attention scale": (("Softmax",), _attention_scale),
    "sum": (("Add",), _sum),
    "convolution bias": (("Conv",), _conv_bias),
}
"""Every kind of rewrite: the operators where it applies (none: the whole file) and its function."""
