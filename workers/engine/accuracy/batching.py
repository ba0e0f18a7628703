"""Frees the batch of an ONNX graph that was exported for one picture, so that it may run with real batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from numpy.typing import NDArray

BATCH = "batch"
"""Name of the freed dimension."""

_TRIED = 3
"""Pictures that a freed batch is tried on: no size that an exported graph is likely to hold as a constant."""

_SAME, _SAME_HALF = 1e-3, 2e-2
"""Largest difference, relative to the largest score, by which a freed batch may answer otherwise, in float32 and in
float16: rounding, no more."""

_PREFIX = "freed_batch"
"""Begins the name of every value that is added to the graph."""

_MOST_BYTES = 2**31
"""What a protobuf message can hold."""

_SUBGRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def freed(path: Path) -> bytes | None:
    """Return the graph of a file whose batch is fixed to 1 with a free batch, serialised; None where it has none.

    Every constant shape of a Reshape on the way from the picture gets its outermost side free, and a constant that is
    joined to that way (a class token) is repeated for each item. This is right for graphs that keep the batch
    outermost, as exporters write them, and wrong for others: run it against the original before it is believed.
    """
    model = onnx.load(str(path))
    graph = model.graph
    if any(attribute.type in _SUBGRAPHS for node in graph.node for attribute in node.attribute):
        return None
    constants = _constants(graph)
    stored = {tensor.name for tensor in graph.initializer}
    # Before version 4 of the format every stored tensor was an input as well, and none could be without.
    picture = next(value for value in graph.input if value.name not in stored)
    model.ir_version = max(model.ir_version, 4)
    live = {picture.name}
    nodes = [
        helper.make_node("Shape", [picture.name], [f"{_PREFIX}_shape"]),
        helper.make_node("Gather", [f"{_PREFIX}_shape", f"{_PREFIX}_first"], [_PREFIX]),
    ]
    graph.initializer.append(numpy_helper.from_array(np.array([0]), f"{_PREFIX}_first"))
    for node in graph.node:
        if not live.isdisjoint(node.input):
            live.update(node.output)
            if node.op_type == "Reshape":
                _free_reshape(graph, node, constants)
            elif node.op_type == "Concat":
                nodes += _repeat_constants(graph, node, live)
        nodes.append(node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    for value in (picture, *graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = BATCH
    return bytes(model.SerializeToString()) if model.ByteSize() < _MOST_BYTES else None


def answers_alike(freed: Any, fixed: Any, name: str, shape: Sequence[int], dtype: Any) -> bool:
    """Whether a freed graph answers several pictures together as the original answers each alone.

    freed, fixed: onnxruntime sessions; name: of their picture input; shape: of one picture; dtype: numpy's.
    """
    tried = np.random.default_rng(0).standard_normal((_TRIED, *shape)).astype(dtype)
    try:
        together = np.asarray(freed.run(None, {name: tried})[0])
        alone = np.concatenate([fixed.run(None, {name: tried[n : n + 1]})[0] for n in range(_TRIED)])
    except Exception:  # noqa: BLE001 - whatever a rewritten graph fails with, it does not answer alike
        return False
    if together.shape != alone.shape or not np.isfinite(alone).all():
        return False
    bound = (_SAME_HALF if dtype is np.float16 else _SAME) * float(np.abs(alone).max(initial=0))
    return bool((np.abs(together - alone) <= bound).all())


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def _free_reshape(graph: onnx.GraphProto, node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> None:
    """Let the outermost side of a constant target shape follow from the others, or be the input's own."""
    if node.input[1] not in constants:
        return
    shape: NDArray[np.int64] = numpy_helper.to_array(constants[node.input[1]]).astype(np.int64)
    if not shape.size or shape[0] < 1:
        return
    # 0 copies the input's side; it stands for 1 only, since of a larger one nobody knows which part is the batch.
    free = -1 if -1 not in shape else 0
    if free == 0 and shape[0] != 1:
        return
    name = f"{_PREFIX}_{node.output[0]}"
    graph.initializer.append(numpy_helper.from_array(np.concatenate([[free], shape[1:]]), name))
    node.input[1] = name


def _repeat_constants(graph: onnx.GraphProto, node: onnx.NodeProto, live: AbstractSet[str]) -> list[onnx.NodeProto]:
    """Return nodes that repeat what is joined to the pictures' way and does not come from it, once an item."""
    added = []
    for place, name in enumerate(node.input):
        if name in live:
            continue
        one, shape, repeated = (f"{_PREFIX}_{part}_{place}_{node.output[0]}" for part in ("one", "shape", "repeated"))
        # A side of 1 leaves the constant's own as it is, and may be left out in front: the batch is outermost.
        rank = _rank(graph, name)
        if rank is None:
            continue
        graph.initializer.append(numpy_helper.from_array(np.ones(rank - 1, dtype=np.int64), one))
        added += [
            helper.make_node("Concat", [_PREFIX, one], [shape], axis=0),
            helper.make_node("Expand", [name, shape], [repeated]),
        ]
        node.input[place] = repeated
    return added


def _rank(graph: onnx.GraphProto, name: str) -> int | None:
    """Return the number of axes of a value that is an initializer with an outermost side of 1, else None."""
    tensor = next((tensor for tensor in graph.initializer if tensor.name == name), None)
    return len(tensor.dims) if tensor is not None and tensor.dims and tensor.dims[0] == 1 else None
