"""Sums, products, powers and means in another spelling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from architecture.draft import Draft, attribute

if TYPE_CHECKING:
    import random

    import onnx

    from architecture.draft import Rewriter


def _commuted(_draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    if len(node.input) != 2:
        return False
    node.input[0], node.input[1] = node.input[1], node.input[0]
    return True


def _sum(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    if draft.shape(node.input[0]) != draft.shape(node.input[1]):
        return False
    draft.replace(node, draft.node("Sum", list(node.input), node.output[0]))
    return True


def _subtraction(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """A sum as the difference to the negative."""
    name = node.input[1]
    if name in draft.weights:
        literal = draft.array(name)
        if literal is not None and literal.size == 1:
            other = draft.constant(-literal)
        else:
            other = draft.weight(draft.shape(name), lambda weights: -weights(name))
        draft.replace(node, draft.node("Sub", [node.input[0], other], node.output[0]))
        return True
    negative = draft.node("Neg", [name]) if rng.random() < 0.5 else draft.node("Mul", [name, draft.constant(-1.0)])
    draft.replace(node, negative, draft.node("Sub", [node.input[0], negative.output[0]], node.output[0]))
    return True


def _reciprocal(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """A division by a number as a product with its reciprocal, and the other way round."""
    constant = draft.array(node.input[1]) if node.input[1] in draft.weights else None
    if constant is None or constant.size != 1 or not constant.any():
        return False
    op = "Div" if node.op_type == "Mul" else "Mul"
    draft.replace(node, draft.node(op, [node.input[0], draft.constant(1 / constant)], node.output[0]))
    return True


def _division(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """A division by a value as a product with its reciprocal."""
    if any(name in draft.weights for name in node.input):
        return False
    inverse = draft.node("Reciprocal", [node.input[1]])
    draft.replace(node, inverse, draft.node("Mul", [node.input[0], inverse.output[0]], node.output[0]))
    return True


def _square(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """A square as a product with itself."""
    exponent = draft.array(node.input[1]) if node.input[1] in draft.weights else None
    if exponent is None or exponent.size != 1 or float(exponent.reshape(())) != 2:
        return False
    draft.replace(node, draft.node("Mul", [node.input[0], node.input[0]], node.output[0]))
    return True


def _mean(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """A mean that keeps its axes, which are then removed, and the other way round; or the sum divided by the number."""
    axes = draft.array(node.input[1]) if len(node.input) > 1 and node.input[1] in draft.weights else None
    before, after = draft.shape(node.input[0]), draft.shape(node.output[0])
    if axes is None:
        return False
    kept = attribute(node, "keepdims", 1)
    if rng.random() < 0.5:
        number = int(np.prod([before[axis] for axis in axes.reshape(-1)]))
        total = draft.node("ReduceSum", list(node.input), keepdims=kept)
        made = draft.node("Div", [total.output[0], draft.constant(float(number))], node.output[0])
        draft.replace(node, total, made)
        return True
    mean = draft.node("ReduceMean", list(node.input), keepdims=1 - kept)
    view = draft.node("Reshape", [mean.output[0], draft.constant(after, np.int64)], node.output[0])
    draft.replace(node, mean, view)
    return True


ARITHMETIC: dict[str, tuple[tuple[str, ...], Rewriter]] = {
    "commuted operands": (("Add", "Mul"), _commuted),
    "sum": (("Add",), _sum),
    "subtraction": (("Add",), _subtraction),
    "reciprocal": (("Mul", "Div"), _reciprocal),
    "division": (("Div",), _division),
    "square": (("Pow",), _square),
    "mean": (("ReduceMean",), _mean),
}
"""Kinds by name, with the operators where they apply (none: the whole file)."""
