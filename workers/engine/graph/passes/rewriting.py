"""What every pass needs: reading shapes and small constants, adding weights lazily, replacing nodes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from workers.engine.protocol import SubjectError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

SOURCE = "zooaudit.source"
"""Metadata of a node: what people call it in the model as published (a module path or the published node name)."""

EPSILON = "zooaudit.batch_norm_epsilon"
"""Metadata of a convolution or matrix product: the epsilon of the batch-norm folded into it."""

WRITTEN = "zooaudit.padding_as_written"
"""Metadata of a pool: its rounding and padding as published, before both were made explicit for this input size."""

SIZED = "zooaudit.written_for_size"
"""Metadata of a node: how it was written, where its canonical spelling is the same at this input size alone."""

COUNTS = "zooaudit.counts"
"""In-memory metadata of a node: its counts before folding, summed when nodes are merged."""

REFOLD = "zooaudit.refold"
"""In-memory metadata of the same: the function from an epsilon to the folded (weight, bias), in float64."""

LITERAL = "zooaudit.literal."
"""Name prefix of vectors that a pass filled in (a gamma of ones); they are no parameters."""

_WITH = " + "
"""Between the names of the tensors that a constant was computed from."""

EAGER_ELEMENTS = 4096
"""Constants up to this many elements are computed at once; larger ones stay lazy until somebody runs the model."""

_WEIGHT_NAMES = {"weight", "kernel", "bias", "gamma", "beta", "depthwise_kernel", "moving_mean", "moving_variance",
                 "running_mean", "running_var", "w", "b"}  # fmt: skip

_serial = itertools.count()


class AbsentValueError(SubjectError):
    """The elements of a weight were asked for in a model that was exported without weights."""


def shape_of(value: ir.Value | None) -> tuple[int, ...] | None:
    """Static shape of a value, or None when it is unknown or symbolic."""
    if value is None:
        return None
    shape = value.const_value.shape if value.const_value is not None else value.shape
    if shape is None or not all(isinstance(size, int) for size in shape):
        return None
    return tuple(int(size) for size in shape)


def is_constant(value: ir.Value | None) -> bool:
    """Whether the value is an initializer, small or large."""
    return value is not None and value.const_value is not None


def constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """Return a constant's elements when it is small enough to look into (``EAGER_ELEMENTS``), else None."""
    if value is None or value.const_value is None or value.const_value.size > EAGER_ELEMENTS:
        return None
    return value.const_value.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """Return the element of a one-element constant, else None."""
    if value is None or value.const_value is None or value.const_value.size != 1:
        return None
    return float(value.const_value.numpy().reshape(()))


def numpy_of(value: ir.Value) -> np.ndarray[Any, Any]:
    """Compute a constant of any size; only lazy tensors call this, when the model is really run."""
    assert value.const_value is not None  # noqa: S101  (callers hold a constant; see is_constant)
    return value.const_value.numpy()


def absent_tensor(shape: Sequence[int], dtype: ir.DataType, name: str) -> ir.TensorProtocol:
    """Return a tensor without elements: shape and type only. Reading its elements raises AbsentValueError."""

    def evaluate() -> ir.TensorProtocol:
        raise AbsentValueError(
            "value-needed", f"the canonical form needs the elements of {name!r}, which was exported without weights."
        )

    return ir.LazyTensor(evaluate, dtype=dtype, shape=ir.Shape(shape), name=name)


def add_absent(graph: ir.Graph, shape: Sequence[int], dtype: ir.DataType, name: str) -> ir.Value:
    """Register a new initializer without elements: what is computed from one without elements."""
    return _register(graph, absent_tensor(shape, dtype, name), name)


def origins(value: ir.Value) -> list[str]:
    """Names of the published tensors that a constant is, or was computed from."""
    return (value.name or "").split("::", maxsplit=1)[0].split(_WITH)


def joined(values: Iterable[ir.Value]) -> str:
    """Name for a constant that is computed from several: floating-point ones are its origins, indices are not."""
    known = list(values)
    weights = [value for value in known if value.dtype is not None and value.dtype.is_floating_point()]
    names = dict.fromkeys(name for value in weights or known[:1] for name in origins(value) if name)
    return _WITH.join(names) or "constant"


def owner(value: ir.Value | None) -> str | None:
    """Return the layer that a weight's name belongs to: ``conv1_conv`` of ``conv1_conv/kernel``, else None."""
    if value is None or value.const_value is None or value.const_value.size == 1 or value.name is None:
        return None
    name = origins(value)[0]
    for separator in ("/", "."):
        layer, _, last = name.rpartition(separator)
        if layer and last in _WEIGHT_NAMES:
            return layer
    return None


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """Value of an attribute, sequences as tuples, or the default."""
    found = node.attributes.get(name)
    if found is None:
        return default
    return tuple(found.value) if isinstance(found.value, list | tuple) else found.value


def add_constant(graph: ir.Graph, array: np.ndarray[Any, Any], name: str = "constant") -> ir.Value:
    """Register an array as a new initializer."""
    tensor = ir.tensor(np.array(array, order="C"))
    return _register(graph, tensor, name)


def add_lazy(
    graph: ir.Graph,
    function: Callable[[], np.ndarray[Any, Any]],
    shape: Sequence[int],
    dtype: ir.DataType,
    name: str,
) -> ir.Value:
    """Register a new initializer whose elements are computed only when the model is run or written.

    Folding a hundred megabytes of weights would cost more than everything else the canonical form needs, and comparing
    architectures reads only shapes.
    """

    def evaluate() -> ir.TensorProtocol:
        return ir.tensor(np.asarray(function().reshape(tuple(shape)).astype(dtype.numpy(), copy=False), order="C"))

    return _register(graph, ir.LazyTensor(evaluate, dtype=dtype, shape=ir.Shape(shape), cache=True), name)


def _register(graph: ir.Graph, tensor: ir.TensorProtocol, name: str) -> ir.Value:
    # A serial number keeps names unique; names carry no meaning in the canonical form. A file that another process has
    # rewritten brings its own serial numbers with it.
    base = name.split("::", maxsplit=1)[0]
    unique = next(full for full in (f"{base}::{number}" for number in _serial) if full not in graph.initializers)
    value = ir.Value(
        name=unique,
        shape=ir.Shape(tensor.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value


def new_node(
    before: ir.Node,
    op: str,
    inputs: Sequence[ir.Value | None],
    attributes: dict[str, Any] | None = None,
    *,
    shape: Sequence[int] | None = None,
    merged: Iterable[ir.Node] = (),
) -> ir.Value:
    """Insert a one-output node before another and return its output.

    The node inherits the source name, the counts and the batch-norm epsilon of the ``merged`` nodes that it stands for.
    """
    node = ir.node(op, inputs, attributes=attributes or {}, version=None)
    output = node.outputs[0]
    output.dtype = before.outputs[0].dtype
    output.shape = ir.Shape(shape) if shape is not None else None
    for old in merged:
        absorb(node, old)
    if SOURCE not in node.metadata_props and SOURCE in before.metadata_props:
        node.metadata_props[SOURCE] = before.metadata_props[SOURCE]
    assert before.graph is not None  # noqa: S101  (passes walk a graph's own nodes)
    before.graph.insert_before(before, node)
    return output


def absorb(node: ir.Node, old: ir.Node) -> None:
    """Let ``node`` stand for ``old`` too: the first source name wins, counts add up."""
    for key in (SOURCE, EPSILON, SIZED):
        if key in old.metadata_props and key not in node.metadata_props:
            node.metadata_props[key] = old.metadata_props[key]
    if REFOLD in old.meta:
        node.meta.setdefault(REFOLD, old.meta[REFOLD])
    if COUNTS in old.meta:
        total = dict(node.meta.get(COUNTS, {}))
        for key, number in old.meta[COUNTS].items():
            total[key] = total.get(key, 0) + number
        node.meta[COUNTS] = total


def replace(old: ir.Value, new: ir.Value) -> None:
    """Make every reader of ``old`` read ``new``; the producer of ``old`` is left for the dead-node sweep."""
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def only_user(value: ir.Value) -> ir.Node | None:
    """Return the single node that reads a value once, or None when there are more, none, or it is an output."""
    uses = tuple(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    return uses[0].node


def producer(value: ir.Value | None, *ops: str) -> ir.Node | None:
    """Return the node that makes a value when its operator is one of ``ops``."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.domain == "" and node.op_type in ops else None


def nodes(model: ir.Model, *ops: str) -> list[ir.Node]:
    """List the nodes of the standard domain with one of these operators, in graph order."""
    return [node for node in model.graph if node.domain == "" and node.op_type in ops]


def sweep(model: ir.Model) -> int:
    """Remove nodes whose outputs nobody reads, and initializers that nobody reads; return how many nodes went."""
    graph = model.graph
    removed = 0
    for node in reversed(graph):
        if all(not output.uses() and not output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
            removed += 1
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
    return removed
