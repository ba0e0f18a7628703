"""Attention in another spelling."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    import onnx

    from architecture.draft import Draft, Rewriter


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


def _einsum(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """A matrix product as Einstein summation."""
    ranks = [len(draft.shape(name)) for name in node.input]
    if ranks[0] not in (2, 3, 4) or ranks[1] not in (2, ranks[0]):
        return False
    batch = "abcd"[: ranks[0] - 2]
    right = batch if ranks[1] > 2 else ""
    equation = f"{batch}ij,{right}jk->{batch}ik"
    draft.replace(node, draft.node("Einsum", list(node.input), node.output[0], equation=equation))
    return True


def _flat_product(draft: Draft, node: onnx.NodeProto, rng: random.Random) -> bool:
    """A product with a matrix over all tokens at once, between two views: as a Gemm or a rank-2 MatMul."""
    before, after = draft.shape(node.input[0]), draft.shape(node.output[0])
    if node.input[1] not in draft.weights or len(before) < 3 or len(draft.shape(node.input[1])) != 2:
        return False
    flat = draft.node("Reshape", [node.input[0], draft.constant([-1, before[-1]], np.int64)])
    product = draft.node(rng.choice(("MatMul", "Gemm")), [flat.output[0], node.input[1]])
    view = draft.node("Reshape", [product.output[0], draft.constant(after, np.int64)], node.output[0])
    draft.replace(node, flat, product, view)
    return True


def _apart(draft: Draft, node: onnx.NodeProto, _: random.Random) -> bool:
    """Query, key and value as three products in place of one whose columns are then divided."""
    width = draft.shape(node.output[0])[-1] // 3
    bias = next(iter(draft.users(node.output[0])), None)
    if node.input[1] not in draft.weights or bias is None or bias.op_type != "Add":
        return False
    if not any(name in draft.weights for name in bias.input):
        return False
    name, views = bias.output[0], []
    while len(users := draft.users(name)) == 1 and users[0].op_type in ("Reshape", "Unsqueeze", "Transpose", "Squeeze"):
        views.append(users[0])
        name = users[0].output[0]
    parts = {user.output[0]: draft.array(user.input[1]) for user in users if user.op_type == "Gather"}
    if len(parts) != 3 or len(users) != 3 or draft.shape(name)[0] != 3:
        return False
    matrix, vector = node.input[1], next(item for item in bias.input if item in draft.weights)
    made = []
    for output, index in parts.items():
        columns = slice(int(index) * width, (int(index) + 1) * width)  # type: ignore[arg-type]
        rows = draft.shape(matrix)[0]
        part = draft.weight((rows, width), partial(_columns, matrix, columns))
        offset = draft.weight((width,), partial(_columns, vector, columns))
        product = draft.node("MatMul", [node.input[0], part])
        total = draft.node("Add", [product.output[0], offset], None)
        view = draft.node("Reshape", [total.output[0], draft.constant(draft.shape(output), np.int64)], output)
        made += [product, total, view]
    draft.insert(users[0], *made)
    for item in (node, bias, *views, *users):
        draft.remove(item)
    return True


def _columns(name: str, columns: slice, weights: Callable[[str], Any]) -> Any:
    return weights(name)[..., columns]


ATTENTION: dict[str, tuple[tuple[str, ...], Rewriter]] = {
    "attention scale": (("Softmax",), _attention_scale),
    "einsum": (("MatMul",), _einsum),
    "flat product": (("MatMul",), _flat_product),
    "query, key, value apart": (("MatMul",), _apart),
}
"""Kinds by name, with the operators where they apply (none: the whole file)."""
