"""From a traced program to operators that the ONNX exporter translates, without tracing it a second time.

``torch.onnx.export`` traces a module (``torch.export``), then traces the result again to decompose what it has no
translation for, which takes longer than everything else. In the picture networks of the zoos only few operators have
none: batch-norm, adaptive pooling to 1x1, casts, and operators that work in place. These are rewritten here, one node
at a time, to what the second trace would give. A program with anything else goes through the second trace.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    Node = Any  # torch.fx.Node; torch ships no types that are checked here

_aten = torch.ops.aten

_PASSING_ON = (_aten.dropout.default, _aten.feature_dropout.default)
"""Operators that give their input itself in inference mode, though their schema does not say so."""

_ASSERTION = (_aten._assert_tensor_metadata.default,)  # noqa: SLF001  (an operator's published name)
"""Removed by the exporter itself."""


class NeedsDecompositionError(Exception):
    """A program holds what only torch's own decomposition can rewrite."""


def lower(program: Any, translated: AbstractSet[Any]) -> None:
    """Rewrite a program of ``torch.export`` in place, so that every operator is in ``translated``.

    Raises NeedsDecompositionError when it cannot; the program may then be half rewritten, but computes the same.
    """
    graph = program.graph
    order = {node: position for position, node in enumerate(graph.nodes)}
    roots = _roots(graph)
    # Everything is looked at before anything is changed.
    for node in graph.nodes:
        if node.op == "get_attr" or (node.op == "call_function" and not _known(node, translated)):
            raise NeedsDecompositionError(str(node.target))
        if _in_place(node):
            _check_private(node, order, roots)
    for node in list(graph.nodes):
        if _in_place(node):
            _out_of_place(node, order)
        rewrite = _REWRITES.get(node.target)
        if rewrite is not None:
            rewrite(node, program.graph_signature)
    graph.lint()
    program.graph_module.recompile()


def has_wide_attention(program: Any) -> bool:
    """Whether attention runs on other than four axes (windows as an axis of their own: Hiera, NesT)."""
    return any(
        node.target is _aten.scaled_dot_product_attention.default and node.args[0].meta["val"].ndim != 4  # noqa: PLR2004
        for node in program.graph.nodes
    )


def _known(node: Node, translated: AbstractSet[Any]) -> bool:
    target = node.target
    if target is operator.getitem or target in translated or target in _ASSERTION:
        return True
    if _in_place(node):
        return _functional(target) in translated
    return _REWRITABLE.get(target, lambda _: False)(node)


def _in_place(node: Node) -> bool:
    return node.op == "call_function" and bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))


def _functional(target: Any) -> Any:
    """The operator that gives what an in-place operator writes: ``relu`` of ``relu_``; None when there is none."""
    name = target._schema.name.removeprefix("aten::")  # noqa: SLF001  (the schema has no public name)
    packet = getattr(_aten, name.removesuffix("_"), None) if name.endswith("_") else None
    return getattr(packet, target._overloadname, None)  # noqa: SLF001  (likewise)


def _roots(graph: Any) -> dict[Node, Node]:
    """The node whose memory each node's result may share; itself for what has memory of its own."""
    found: dict[Node, Node] = {}
    for node in graph.nodes:
        found[node] = node
        if node.op != "call_function" or not node.args or not isinstance(node.args[0], torch.fx.Node):
            continue
        returns = getattr(getattr(node.target, "_schema", None), "returns", ())
        shares = any(item.alias_info is not None for item in returns)
        if shares or node.target is operator.getitem or node.target in _PASSING_ON:
            found[node] = found[node.args[0]]
    return found


def _check_private(node: Node, order: dict[Node, int], roots: dict[Node, Node]) -> None:
    """Refuse a write that somebody else sees: through a view, or in an input or weight."""
    written = node.args[0]
    root = roots[written]
    if root.op == "placeholder":
        raise NeedsDecompositionError(f"{node.target} writes into {root.name}")
    for other, its_root in roots.items():
        shared = its_root is root and other is not written and order[other] < order[node]
        if shared and any(order[user] > order[node] for user in other.users):
            raise NeedsDecompositionError(f"{node.target} writes into what {other.name} reads")


def _out_of_place(node: Node, order: dict[Node, int]) -> None:
    written = node.args[0]
    node.target = _functional(node.target)
    written.replace_all_uses_with(
        node, delete_user_cb=lambda user: user is not node and order.get(user, -1) > order[node]
    )


def _batch_norm(node: Node, signature: Any) -> None:
    """Batch-norm is the first of three results of the operators that the exporter translates.

    One without moving statistics normalises weights (weight standardisation), in inference too.
    """
    source, weight, bias, mean, variance, training, momentum, epsilon = node.args[:8]
    value = node.meta["val"]
    with node.graph.inserting_before(node):
        if training:
            operator_ = _aten._native_batch_norm_legit.no_stats  # noqa: SLF001  (its published name)
            three = node.graph.call_function(operator_, (source, weight, bias, True, momentum, epsilon))
        else:
            operator_ = _aten._native_batch_norm_legit_no_training.default  # noqa: SLF001  (likewise)
            three = node.graph.call_function(operator_, (source, weight, bias, mean, variance, momentum, epsilon))
        first = node.graph.call_function(operator.getitem, (three, 0))
    first.meta = dict(node.meta)
    three.meta = dict(node.meta)
    empty = value.new_empty(0)
    three.meta["val"] = (value, empty, empty)
    _replace(node, first, signature)


def _replace(node: Node, new: Node, signature: Any) -> None:
    node.replace_all_uses_with(new)
    signature.replace_all_uses(node.name, new.name)
    node.graph.erase_node(node)


def _mean_pool(node: Node, _signature: Any) -> None:
    node.target = _aten.mean.dim
    node.args, node.kwargs = (node.args[0], [-1, -2], True), {}


def _cast(node: Node, signature: Any) -> None:
    source = node.args[0]
    if source.meta["val"].dtype == node.meta["val"].dtype:
        _replace(node, source, signature)
        return
    node.target = torch.ops.prims.convert_element_type.default
    node.args, node.kwargs = (source, node.meta["val"].dtype), {}


def _square(node: Node, _signature: Any) -> None:
    node.target = _aten.pow.Tensor_Scalar
    node.args, node.kwargs = (node.args[0], 2), {}


def _same_shape(node: Node, _signature: Any) -> None:
    node.target = _aten.reshape.default
    node.args, node.kwargs = (node.args[0], list(node.meta["val"].shape)), {}


_REWRITES: dict[Any, Callable[[Node, Any], None]] = {
    _aten.batch_norm.default: _batch_norm,
    _aten.adaptive_avg_pool2d.default: _mean_pool,
    _aten.to.dtype: _cast,
    _aten.to.device: _cast,
    _aten.square.default: _square,
    _aten.reshape_as.default: _same_shape,
}


def _translated_batch_norm(node: Node) -> bool:
    if len(node.args) < 8:  # noqa: PLR2004  (up to the epsilon)
        return False
    if node.args[5]:
        return node.args[3] is None and node.args[4] is None
    return all(item is not None for item in node.args[:5])


_REWRITABLE: dict[Any, Callable[[Node], bool]] = {
    _aten.batch_norm.default: _translated_batch_norm,
    _aten.adaptive_avg_pool2d.default: lambda node: list(node.args[1]) == [1, 1],
    _aten.to.dtype: lambda node: not node.users or node.args[0].op != "placeholder",
    _aten.to.device: lambda node: not node.users or node.args[0].op != "placeholder",
    _aten.square.default: lambda _: True,
    _aten.reshape_as.default: lambda _: True,
}
"""When a rewrite applies; the second trace does the rest."""
