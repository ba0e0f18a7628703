"""Activations taken apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from architecture.draft import Draft, attribute

if TYPE_CHECKING:
    import random

    import onnx

    from architecture.draft import Rewriter


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


ACTIVATIONS: dict[str, tuple[tuple[str, ...], Rewriter]] = {
    "relu": (("Relu",), _relu),
    "clip": (("Clip",), _clip),
    "hard-swish": (("HardSwish",), _hard_swish),
    "hard sigmoid": (("HardSigmoid",), _hard_sigmoid),
    "sigmoid, silu": (("Sigmoid",), _sigmoid),
    "gelu": (("Gelu",), _gelu),
    "gelu tanh": (("Gelu",), _gelu_tanh),
}
"""Kinds by name, with the operators where they apply (none: the whole file)."""
