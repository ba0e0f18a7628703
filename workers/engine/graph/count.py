"""One counter for every zoo: parameters, buffers, multiply-accumulates and activations of a model as published.

It runs on the standard form, before folding: batch-norm's gamma and beta are parameters, its moving statistics buffers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from workers.engine.graph import published
from workers.engine.graph.passes import rewriting as rw

if TYPE_CHECKING:
    import onnx_ir as ir

    from workers.engine.graph.published import Published

KEYS = ("parameters", "buffers", "macs", "flops", "activations")
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum")
_STATISTICS = ("Sub", "Div")
"""A vector that is subtracted or divided by is a statistic of the data (a normalisation layer), not trained."""


def annotate(model: ir.Model, batch: int) -> None:
    """Write each node's counts into its metadata (``rewriting.COUNTS``), per picture.

    ``macs`` counts multiply-accumulates of convolutions and matrix products, ``flops`` is twice that; ``activations``
    counts the elements that those operators put out (the convention of fvcore and timm). A matrix used by several nodes
    is one parameter (tied); a vector used by several nodes is counted at every use, because exporters merge equal
    vectors (all batch-norm gammas of an untrained model) that the model keeps apart. Where the export says what each
    tensor was (``published``), nothing is guessed: every parameter counts once, as large as it was published.
    """
    known = published.read(model)
    seen: set[str] = set()
    for node in model.graph:
        parameters, buffers = _weights(node, seen) if known is None else _published(node, known, seen)
        macs = _macs(node) // batch
        shape = rw.shape_of(node.outputs[0]) or ()
        node.meta[rw.COUNTS] = {
            "parameters": parameters,
            "buffers": buffers,
            "macs": macs,
            "flops": 2 * macs,
            "activations": math.prod(shape) // batch if node.op_type in _PRODUCTS else 0,
        }


def _published(node: ir.Node, known: Published, seen: set[str]) -> tuple[int, int]:
    """Elements of the published tensors that this node is the first to hold, as they are or in what they became."""
    held = [value for value in node.inputs if value is not None and value.const_value is not None]
    names = {name for value in held for name in rw.origins(value)} - seen
    seen |= names
    return sum(known.parameters.get(name, 0) for name in names), sum(known.buffers.get(name, 0) for name in names)


def _weights(node: ir.Node, tied: set[str]) -> tuple[int, int]:
    parameters = buffers = 0
    for index, value in enumerate(node.inputs):
        if not _is_weight(node, value) or value is None or value.const_value is None:
            continue
        size, name = int(value.const_value.size), (value.name or "").split("::", maxsplit=1)[0]
        if len(rw.shape_of(value) or ()) > 1 and size == max(rw.shape_of(value) or (0,)):
            pass  # a vector written with axes of size 1
        elif len(rw.shape_of(value) or ()) > 1:
            if name in tied:
                continue
            tied.add(name)
        moving = node.op_type == "BatchNormalization" and index in (3, 4)
        if moving or node.op_type in _STATISTICS:
            buffers += size
        else:
            parameters += size
    return parameters, buffers


def _is_weight(node: ir.Node, value: ir.Value | None) -> bool:
    if value is None or value.const_value is None or value.dtype is None or not value.dtype.is_floating_point():
        return False
    if (value.name or "").startswith(rw.LITERAL):
        return False
    # One-element constants of element-wise operators are literals of the architecture (1/sqrt(d), 0.5).
    return value.const_value.size > 1 or node.op_type in (*_PRODUCTS, "BatchNormalization", "PRelu")


def _macs(node: ir.Node) -> int:
    if node.op_type not in _PRODUCTS:
        return 0
    if node.op_type == "Einsum":
        return _einsum_macs(node)
    data, weight, output = (rw.shape_of(value) for value in (node.inputs[0], node.inputs[1], node.outputs[0]))
    if data is None or weight is None or output is None:
        return 0
    if node.op_type == "Conv":
        return math.prod(output) * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(data) * math.prod(weight[1:])
    inner = data[0] if node.op_type == "Gemm" and rw.attribute(node, "transA", 0) else data[-1]
    return math.prod(output) * inner


def _einsum_macs(node: ir.Node) -> int:
    """Multiply-accumulates of a product of two tensors: every combination of its indices once."""
    terms = str(rw.attribute(node, "equation", "")).replace(" ", "").split("->")[0].split(",")
    shapes = [rw.shape_of(value) for value in node.inputs]
    fits = all(shape is not None and len(shape) == len(term) for shape, term in zip(shapes, terms, strict=True))
    if len(terms) != 2 or not fits:  # noqa: PLR2004  (a product of two)
        return 0
    sizes = {
        label: size
        for term, shape in zip(terms, shapes, strict=True)
        for label, size in zip(term, shape or (), strict=True)
    }
    return math.prod(sizes.values())
