"""Changes of attention: number of heads, scale, mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from architecture.draft import Draft, choose

if TYPE_CHECKING:
    import random

    import onnx

    from architecture.draft import Mutator

_VIEWS = ("Reshape", "Transpose", "Mul", "Div", "Add")


@dataclass(frozen=True)
class _Attention:
    """One attention: its two products, its softmax, and what stands between them and the heads' beginnings."""

    scores: onnx.NodeProto
    softmax: onnx.NodeProto
    result: onnx.NodeProto
    between: tuple[onnx.NodeProto, ...]
    heads: int
    size: int

    @property
    def places(self) -> tuple[str, ...]:
        """Names of all its nodes."""
        return tuple(node.name for node in (self.scores, self.softmax, self.result, *self.between))


def _attention(draft: Draft, rng: random.Random) -> _Attention | None:
    softmax = choose(rng, [node for node in draft.of("Softmax") if len(draft.shape(node.output[0])) == 4])
    users = draft.users(softmax.output[0]) if softmax is not None else []
    if softmax is None or not users or users[0].op_type != "MatMul":
        return None
    between: list[onnx.NodeProto] = []
    node = draft.producer(softmax.input[0])
    while node is not None and node.op_type in ("Mul", "Div", "Add"):
        between.append(node)
        node = draft.producer(node.input[0])
    if node is None or node.op_type != "MatMul":
        return None
    scores = node
    for name in (*scores.input, users[0].input[1]):
        node = draft.producer(name)
        while node is not None and node.op_type in _VIEWS and not _adds_bias(draft, node):
            between.append(node)
            node = draft.producer(node.input[0])
    heads, size = draft.shape(softmax.output[0])[1], draft.shape(scores.input[0])[3]
    return _Attention(scores, softmax, users[0], tuple(between), heads, size)


def _adds_bias(draft: Draft, node: onnx.NodeProto) -> bool:
    return node.op_type == "Add" and draft.producer(node.input[0]) is not None and len(draft.shape(node.input[1])) == 1


def _factors(draft: Draft, found: _Attention) -> list[onnx.NodeProto]:
    """Scalar factors and divisors of the scores or of their operands."""
    scalars = []
    for node in found.between:
        constant = draft.array(node.input[1]) if node.op_type in ("Mul", "Div") else None
        if constant is not None and constant.size == 1:
            scalars.append(node)
    return scalars


def _multiply(draft: Draft, node: onnx.NodeProto, factor: float) -> None:
    old = np.asarray(draft.array(node.input[1]))
    node.input[1] = draft.constant(old * factor if node.op_type == "Mul" else old / factor)


def _heads(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """Twice or half as many heads at equal width, with the scale that goes with it."""
    found = _attention(draft, rng)
    if found is None:
        return None
    heads, size = (found.heads * 2, found.size // 2) if rng.random() < 0.5 else (found.heads // 2, found.size * 2)
    if heads * size != found.heads * found.size or min(heads, size) < 2:
        return None
    for node in found.between:
        target = draft.array(node.input[1]) if node.op_type == "Reshape" else None
        if target is not None and found.heads in target and found.size in target:
            new = [{found.heads: heads, found.size: size}.get(int(item), int(item)) for item in target]
            node.input[1] = draft.constant(new, np.int64)
    for node in _factors(draft, found)[:1]:
        _multiply(draft, node, (found.size / size) ** 0.5)
    return found.places


def _scale(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """Scores scaled as if heads had another size, or not at all."""
    found = _attention(draft, rng)
    factors = _factors(draft, found) if found is not None else []
    if found is None or not factors:
        return None
    _multiply(draft, factors[0], rng.choice((0.5, 2.0, found.size**0.5)))
    return found.places


def _mask(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """The causal mask taken away where there is one, put on where there is none."""
    found = _attention(draft, rng)
    if found is None:
        return None
    adder = draft.producer(found.softmax.input[0])
    if adder is not None and adder.op_type == "Add":
        draft.bypass(adder)
        return found.places
    tokens = draft.shape(found.softmax.input[0])[-1]
    mask = np.triu(np.full((tokens, tokens), -np.inf, np.float32), 1)
    made = draft.node("Add", [found.softmax.input[0], draft.constant(mask)])
    found.softmax.input[0] = made.output[0]
    draft.insert(found.softmax, made)
    return (*found.places, made.name)


ATTENTION: dict[str, Mutator] = {"heads": _heads, "attention_scale": _scale, "mask": _mask}
"""Kinds by name."""
