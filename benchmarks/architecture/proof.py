"""Proof, in onnxruntime, that a rewrite computes what its base does, and that a mutant does not.

The base is run once on a random input and every value in it is kept. Of a changed model only what changed is run, on
the base's own values: where its results are the base's, the whole network's are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from architecture.draft import EAGER, absent
from architecture.weights import Weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from architecture.draft import Elements

Array = np.ndarray[Any, Any]

SAME = 1e-4
"""Largest relative error (root mean square) of a rewrite, which may sum in another order in float32."""

OTHER = 1e-6
"""Smallest relative difference of a mutant's outputs; unchanged operators give the same bits every time."""

_PICTURE = 4

_REFUSED = (Fail, InvalidArgument, RuntimeException)
"""What onnxruntime raises for shapes that do not fit each other."""


class Reference:
    """One base network's weights and all values of one run."""

    def __init__(self, proto: onnx.ModelProto, path: Path) -> None:
        self.weights = Weights(proto, {})
        self.proto = proto
        self.nodes = {node.name: _content(node) for node in proto.graph.node}
        self.opset = proto.opset_import[0].version
        feeds = {value.name: _input(value, proto) for value in proto.graph.input}
        names = [name for node in proto.graph.node for name in node.output if name]
        found = _run(proto, list(proto.graph.node), feeds, names, self.weights)
        broken = [value.name for value in proto.graph.output if not np.isfinite(found[value.name]).all()]
        if broken:
            raise ValueError(f"{proto.graph.name}: output {broken[0]} is not finite; draw smaller weights.")
        arrays: dict[str, Any] = {**feeds, **found}
        np.savez(path, **arrays)
        self._values = np.load(path)

    def value(self, name: str) -> Array | None:
        """Elements of a value or weight of the base; None for a name it does not have."""
        if name in self._values:
            return self._values[name]
        return self.weights(name) if name in self.weights else None

    def same(self, proto: onnx.ModelProto, elements: Mapping[str, Elements]) -> bool:
        """Whether a rewrite computes the same: the results of all that is new in it agree with the base's values."""
        new = self._changed(proto)
        inside = {node.name for node in new}
        read_outside = {name for node in proto.graph.node if node.name not in inside for name in node.input}
        ends = read_outside | {value.name for value in proto.graph.output}
        wanted = [name for node in new for name in node.output if name in ends]
        return self._error(proto, elements, new, wanted) <= SAME

    def differs(self, proto: onnx.ModelProto) -> bool:
        """Whether a mutant's outputs have other shapes or elements than the base's.

        A mutant that does not run, because a later shape does not fit what was changed, is no network: False.
        """
        reached = {node.name for node in self._changed(proto)}
        values: set[str] = set()
        behind = []
        for node in proto.graph.node:
            if node.name in reached or any(name in values for name in node.input):
                behind.append(node)
                values.update(node.output)
        wanted = [value.name for value in proto.graph.output if value.name in values]
        try:
            return self._error(proto, {}, behind, wanted) > OTHER
        except _REFUSED:
            return False

    def _changed(self, proto: onnx.ModelProto) -> list[onnx.NodeProto]:
        """Nodes that the base does not have; all of them where the file as a whole was changed."""
        nodes = list(proto.graph.node)
        if proto.opset_import[0].version == self.opset:
            nodes = [node for node in nodes if self.nodes.get(node.name) != _content(node)]
        return nodes or list(proto.graph.node)

    def _error(
        self,
        proto: onnx.ModelProto,
        elements: Mapping[str, Elements],
        nodes: list[onnx.NodeProto],
        wanted: list[str],
    ) -> float:
        """Largest relative error of some values when these nodes are run on the base's values."""
        weights = Weights(proto, elements, self.weights)
        made = {name for node in nodes for name in node.output}
        given = {name for node in nodes for name in node.input if name and name not in made and name not in weights}
        shapes = {
            value.name: tuple(item.dim_value for item in value.type.tensor_type.shape.dim)
            for value in proto.graph.input
        }
        feeds = {name: _turned(self._values[name], shapes.get(name)) for name in given}
        found = _run(proto, nodes, feeds, wanted, weights)
        return max((_relative(found[name], self.value(name)) for name in wanted), default=0.0)


def _content(node: onnx.NodeProto) -> str:
    attributes = sorted(attribute.SerializeToString() for attribute in node.attribute)
    return repr((node.op_type, list(node.input), list(node.output), attributes))


def _turned(array: Array, shape: tuple[int, ...] | None) -> Array:
    """Return the same picture with its channels where the input now has them."""
    turn = shape is not None and len(shape) == _PICTURE and shape != array.shape
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if turn else array


def _relative(found: Array, expected: Array | None) -> float:
    if expected is None or found.shape != expected.shape:
        return float("inf")
    finite = np.isfinite(expected)  # masked scores are not
    if not np.array_equal(found[~finite], expected[~finite]):
        return float("inf")
    left, right = found[finite].astype(np.float64), expected[finite].astype(np.float64)
    size = float(np.sqrt(np.mean(right**2)))
    error = float(np.sqrt(np.mean((left - right) ** 2)))
    return error / size if size else error


def _input(value: onnx.ValueInfoProto, proto: onnx.ModelProto) -> Array:
    """A random picture, or random token numbers where the input is an index."""
    shape = tuple(item.dim_value for item in value.type.tensor_type.shape.dim)
    rng = np.random.default_rng(len(shape))
    readers = [node.op_type for node in proto.graph.node if value.name in node.input]
    if "Cast" in readers or "Gather" in readers:
        numbers = rng.integers(0, 1000, shape)
        return numbers.astype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    return (rng.normal(size=shape) + rng.normal(size=(*shape[:2], *(1,) * (len(shape) - 2)))).astype(np.float32)


def _run(
    proto: onnx.ModelProto, nodes: list[onnx.NodeProto], feeds: dict[str, Array], wanted: list[str], weights: Weights
) -> dict[str, Array]:
    """Run some nodes of a model on one thread, as they are written, and return the values asked for."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    # Fusions of the runtime itself would hide what a rewrite did.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    made = {name for node in nodes for name in node.output}
    read = dict.fromkeys(name for node in nodes for name in node.input if name not in feeds and name not in made)
    small, large = [], {}
    for name in read:
        if not name:
            continue
        array = weights(name)
        if array.size > EAGER and array.dtype == np.float32:
            small.append(absent(name, array.shape))
            large[name] = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
        else:
            small.append(numpy_helper.from_array(array, name))
    if large:
        options.add_external_initializers(list(large), list(large.values()))
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in wanted]
    graph = helper.make_graph(nodes, "part", inputs, outputs, small)
    model = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=min(proto.ir_version, 10))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(wanted, session.run(wanted, feeds), strict=True))
