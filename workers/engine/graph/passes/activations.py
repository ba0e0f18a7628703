"""Activations: one spelling for ReLU6, hard sigmoid, hard swish and GELU.

SiLU becomes ``x * Sigmoid(x)``, as exporters write it; the order of a product's operands does not matter.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from workers.engine.graph.passes import rewriting as rw

if TYPE_CHECKING:
    import onnx_ir as ir

_CLOSE = 1e-4
"""Relative closeness of a written constant (1.4142, 0.1667) to the one that the definition means."""


def _is(value: ir.Value | None, expected: float) -> bool:
    found = rw.scalar(value)
    return found is not None and math.isclose(found, expected, rel_tol=_CLOSE)


def _split(node: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    """Return a commutative node's operands as (data, one-element constant); None for what is missing."""
    left, right = node.inputs[:2]
    if rw.scalar(right) is not None:
        return left, right
    return (right, left) if rw.scalar(left) is not None else (None, None)


def clip_spellings(model: ir.Model) -> int:
    """Write Clip from 0 upwards without a bound as Relu, and Min/Max against constants as Clip."""
    changed = 0
    for node in rw.nodes(model, "Clip", "Min", "Max"):
        shape = rw.shape_of(node.outputs[0])
        if node.op_type == "Clip":
            low, high = _bounds(node)
            if low == 0 and high == math.inf:
                rw.replace(node.outputs[0], rw.new_node(node, "Relu", node.inputs[:1], shape=shape, merged=[node]))
                changed += 1
            continue
        changed += _min_max(node, shape)
    return changed


def _bounds(node: ir.Node) -> tuple[float | None, float | None]:
    """Lower and upper bound of a Clip; infinities where it gives none, None where they are computed."""
    found: list[float | None] = []
    for index, absent in ((1, -math.inf), (2, math.inf)):
        value = node.inputs[index] if len(node.inputs) > index else None
        found.append(absent if value is None else rw.scalar(value))
    widest = float(np.finfo(np.float32).max)
    low, high = found
    return (-math.inf if low == -widest else low), (math.inf if high == widest else high)


def _min_max(node: ir.Node, shape: tuple[int, ...] | None) -> int:
    if len(node.inputs) != 2 or shape is None:  # noqa: PLR2004  (one bound)
        return 0
    data, bound = _split(node)
    dtype = node.outputs[0].dtype
    if data is None or bound is None or rw.is_constant(data) or dtype is None or not dtype.is_floating_point():
        return 0
    limit = rw.add_constant(_graph(node), np.asarray(rw.scalar(bound), dtype.numpy()), "bound")
    other = "Min" if node.op_type == "Max" else "Max"
    inner = rw.producer(data, "Clip")
    low, high = _bounds(inner) if inner is not None and rw.only_user(data) is node else (None, None)
    inputs: list[ir.Value | None] = [data, limit] if node.op_type == "Max" else [data, None, limit]
    if inner is not None and other == "Max" and high == math.inf and low is not None:
        inputs = [inner.inputs[0], inner.inputs[1], limit]
    elif inner is not None and other == "Min" and low == -math.inf and high is not None:
        if high < (rw.scalar(bound) or 0.0):
            return 0
        inputs = [inner.inputs[0], limit, inner.inputs[2]]
    rw.replace(node.outputs[0], rw.new_node(node, "Clip", inputs, shape=shape, merged=[node]))
    return 1


def _graph(node: ir.Node) -> ir.Graph:
    graph = node.graph
    assert graph is not None  # noqa: S101  (passes walk a graph's own nodes)
    return graph


def sigmoid(model: ir.Model) -> int:
    """Write ``1 / (1 + exp(-x))`` as Sigmoid, and any other numerator as a factor of it."""
    changed = 0
    for node in rw.nodes(model, "Div", "Reciprocal"):
        total = rw.producer(node.inputs[-1], "Add")
        power, one = _split(total) if total is not None else (None, None)
        exp = rw.producer(power, "Exp") if _is(one, 1.0) else None
        negative = rw.producer(exp.inputs[0], "Neg", "Mul") if exp is not None else None
        if negative is None:
            continue
        data, sign = (negative.inputs[0], None) if negative.op_type == "Neg" else _split(negative)
        shape = rw.shape_of(node.outputs[0])
        if data is None or shape != rw.shape_of(data) or (negative.op_type == "Mul" and not _is(sign, -1.0)):
            continue
        output = rw.new_node(node, "Sigmoid", [data], shape=shape, merged=[node])
        if node.op_type == "Div" and rw.scalar(node.inputs[0]) != 1.0:
            output = rw.new_node(node, "Mul", [node.inputs[0], output], shape=shape)
        rw.replace(node.outputs[0], output)
        changed += 1
    return changed


def hard_sigmoid(model: ir.Model) -> int:
    """Write ``clip(x + 3, 0, 6) / 6`` as HardSigmoid with alpha 1/6, beta 1/2."""
    changed = 0
    for node in rw.nodes(model, "Div", "Mul"):
        data, factor = (node.inputs[0], node.inputs[1]) if node.op_type == "Div" else _split(node)
        clip = rw.producer(data, "Clip")
        if clip is None or not _is(factor, 6.0 if node.op_type == "Div" else 1 / 6) or _bounds(clip) != (0.0, 6.0):
            continue
        add = rw.producer(clip.inputs[0], "Add")
        source, three = _split(add) if add is not None else (None, None)
        if source is None or not _is(three, 3.0):
            continue
        shape = rw.shape_of(node.outputs[0])
        attributes = {"alpha": 1 / 6, "beta": 0.5}
        rw.replace(node.outputs[0], rw.new_node(node, "HardSigmoid", [source], attributes, shape=shape, merged=[node]))
        changed += 1
    return changed


def hard_swish(model: ir.Model) -> int:
    """Write ``x * HardSigmoid(x)`` with alpha 1/6 and beta 1/2, and ``x * clip(x + 3, 0, 6) / 6``, as HardSwish."""
    changed = 0
    for node in rw.nodes(model, "Mul"):
        for data, gate in (node.inputs, tuple(reversed(node.inputs))):
            sigmoid = rw.producer(gate, "HardSigmoid")
            if sigmoid is None or sigmoid.inputs[0] is not data:
                continue
            slope, shift = rw.attribute(sigmoid, "alpha", 0.2), rw.attribute(sigmoid, "beta", 0.5)
            if math.isclose(slope, 1 / 6, rel_tol=_CLOSE) and shift == 0.5:  # noqa: PLR2004  (the definition's constants)
                shape = rw.shape_of(node.outputs[0])
                rw.replace(node.outputs[0], rw.new_node(node, "HardSwish", [data], shape=shape, merged=[node]))
                changed += 1
                break
    return changed


def gelu(model: ir.Model) -> int:
    """Write ``0.5 x (1 + erf(x / sqrt(2)))``, its factors in any order, as Gelu."""
    changed = 0
    for erf in rw.nodes(model, "Erf"):
        scaled = rw.producer(erf.inputs[0], "Div", "Mul")
        add = rw.only_user(erf.outputs[0])
        if scaled is None or add is None or add.op_type != "Add":
            continue
        divides = scaled.op_type == "Div"
        source, factor = (scaled.inputs[0], scaled.inputs[1]) if divides else _split(scaled)
        if (
            source is None
            or not _is(factor, math.sqrt(2) if divides else math.sqrt(0.5))
            or not _is(_split(add)[1], 1.0)
        ):
            continue
        last = _gelu_product(add, source)
        if last is not None:
            shape = rw.shape_of(last.outputs[0])
            output = rw.new_node(last, "Gelu", [source], {"approximate": "none"}, shape=shape, merged=[last])
            rw.replace(last.outputs[0], output)
            changed += 1
    return changed


def gelu_tanh(model: ir.Model) -> int:
    """Write ``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`` as Gelu with ``approximate="tanh"``."""
    changed = 0
    for tanh in rw.nodes(model, "Tanh"):
        scaled = rw.producer(tanh.inputs[0], "Mul")
        total, factor = _split(scaled) if scaled is not None else (None, None)
        outer = rw.producer(total, "Add") if _is(factor, math.sqrt(2 / math.pi)) else None
        add = rw.only_user(tanh.outputs[0])
        if outer is None or add is None or add.op_type != "Add" or not _is(_split(add)[1], 1.0):
            continue
        for source, cubic in (outer.inputs, tuple(reversed(outer.inputs))):
            last = _gelu_product(add, source) if source is not None and _is_cubic(cubic, source) else None
            if last is not None:
                shape = rw.shape_of(last.outputs[0])
                output = rw.new_node(last, "Gelu", [source], {"approximate": "tanh"}, shape=shape, merged=[last])
                rw.replace(last.outputs[0], output)
                changed += 1
                break
    return changed


def _is_cubic(value: ir.Value | None, source: ir.Value) -> bool:
    """Whether a value is ``0.044715 source^3``."""
    product = rw.producer(value, "Mul")
    cube, factor = _split(product) if product is not None else (None, None)
    if not _is(factor, 0.044715):
        return False
    power = rw.producer(cube, "Pow", "Mul")
    if power is None:
        return False
    if power.op_type == "Pow":
        return power.inputs[0] is source and rw.scalar(power.inputs[1]) == 3.0  # noqa: PLR2004  (a cube)
    for square, other in (power.inputs, tuple(reversed(power.inputs))):
        inner = rw.producer(square, "Mul")
        if other is source and inner is not None and inner.inputs[0] is source and inner.inputs[1] is source:
            return True
    return False


def _gelu_product(add: ir.Node, source: ir.Value) -> ir.Node | None:
    """Return the last multiplication when ``add`` is multiplied by ``source`` and by 0.5, in any order."""
    factors: list[object] = []
    node = add
    while len(factors) < 2:  # noqa: PLR2004  (source and one half)
        user = rw.only_user(node.outputs[0])
        if user is None or user.op_type != "Mul":
            return None
        other = user.inputs[1] if user.inputs[0] is node.outputs[0] else user.inputs[0]
        half = rw.producer(other, "Mul")
        if half is not None and _split(half)[0] is source and _is(_split(half)[1], 0.5):
            factors += ["source", "half"]
        elif other is source:
            factors.append("source")
        elif _is(other, 0.5):
            factors.append("half")
        else:
            return None
        node = user
    return node if sorted(map(str, factors)) == ["half", "source"] else None
