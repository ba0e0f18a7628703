"""Products of two computed or constant tensors: Einstein summation as MatMul."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from workers.engine.graph.passes import rewriting as rw

if TYPE_CHECKING:
    import onnx_ir as ir

_PRODUCT = re.compile(r"([a-zA-Z]+),([a-zA-Z]+)->([a-zA-Z]+)")


def einsum_to_matmul(model: ir.Model) -> int:
    """Write an Einsum that contracts one index of two tensors as MatMul, with transposes where they are needed.

    The second operand keeps one index of its own; indices that all three share are the batch.
    """
    changed = 0
    for node in rw.nodes(model, "Einsum"):
        match = _PRODUCT.fullmatch(str(rw.attribute(node, "equation", "")).replace(" ", ""))
        sizes = _sizes(node, match.groups()) if match is not None else None
        if match is None or sizes is None:
            continue
        left, right, out = match.groups()
        batch = [index for index in out if index in left and index in right]
        rows = [index for index in out if index in left and index not in right]
        columns = [index for index in out if index in right and index not in left]
        inner = [index for index in left if index in right and index not in out]
        used = len(batch) + len(rows) + len(columns)
        if len(inner) != 1 or len(columns) != 1 or used != len(out) or (batch and len(rows) != 1) or not rows:
            continue
        if len(left) != len(batch) + len(rows) + 1 or len(right) != len(batch) + 2:
            continue
        operands = [
            _turned(node, node.inputs[0], left, [*batch, *rows, *inner], sizes),
            _turned(node, node.inputs[1], right, [*batch, *inner, *columns], sizes),
        ]
        order = [*batch, *rows, *columns]
        shape = tuple(sizes[index] for index in order)
        product = rw.new_node(node, "MatMul", operands, shape=shape, merged=[node])
        rw.replace(node.outputs[0], _turned(node, product, "".join(order), list(out), sizes))
        changed += 1
    return changed


def _sizes(node: ir.Node, terms: tuple[str, ...]) -> dict[str, int] | None:
    """Size of every index; None when a shape is unknown or an index stands twice in one term."""
    sizes: dict[str, int] = {}
    for value, term in zip(node.inputs, terms[:2], strict=True):
        shape = rw.shape_of(value)
        if shape is None or len(shape) != len(term) or len(set(term)) != len(term):
            return None
        for index, size in zip(term, shape, strict=True):
            if sizes.setdefault(index, size) != size:
                return None  # one of them is broadcast
    return sizes if len(set(terms[2])) == len(terms[2]) and set(terms[2]) <= set(sizes) else None


def _turned(
    node: ir.Node, value: ir.Value | None, have: str, want: list[str], sizes: dict[str, int]
) -> ir.Value | None:
    if list(have) == want:
        return value
    order = [have.index(index) for index in want]
    return rw.new_node(node, "Transpose", [value], {"perm": order}, shape=[sizes[index] for index in want])
