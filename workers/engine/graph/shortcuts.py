"""What torch's exporter spends most of its time on and an architecture does not need, left out during an export.

Nothing here changes the canonical graph. Torch offers no public way to any of it, so every shortcut stands alone: where
a release has moved what one swaps, that one is left out, and the export is slower and gives the same graph.
"""

from __future__ import annotations

import contextlib
import gc
from functools import cache
from typing import TYPE_CHECKING, Any

from workers.engine.graph.passes.constants import OPSET
from workers.engine.zoos.replaced import replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


@contextlib.contextmanager
def shortened() -> Iterator[None]:
    """Export inside without what is not needed."""
    with contextlib.ExitStack() as stack:
        for shortcut in SHORTCUTS:
            with contextlib.suppress(ImportError, AttributeError):  # this torch release keeps it elsewhere
                stack.enter_context(shortcut())
        yield


def prepare() -> None:
    """Build the exporter's tables before the first export; a process that forks exporters does this once for all."""
    _translated()


@cache
def _registry() -> Any:
    from torch.onnx._internal.exporter import _registration

    return _registration.ONNXRegistry.from_torchlib(opset_version=OPSET)


@cache
def _translated() -> frozenset[Any]:
    """Operators that the exporter translates."""
    from torch.onnx._internal.exporter import _decomp

    return frozenset(_decomp.get_onnx_implemented_overloads(_registry()))


@contextlib.contextmanager
def _collected_afterwards() -> Iterator[None]:
    """Collect no garbage meanwhile: tracing makes millions of objects that all live until its end."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _without_stack_traces() -> AbstractContextManager[None]:
    """The trace notes for every operator which lines of Python led to it, for error messages that nobody reads here."""
    import torch.fx

    return replaced(torch.fx.config, "do_not_emit_stack_traces", value=True)


def _uncompiled_graphs() -> Any:
    """Every step of the export writes its graph out as Python and compiles it; it is never called."""
    from torch.fx import _lazy_graph_module

    return _lazy_graph_module._use_lazy_graph_module(should_use=True)  # noqa: SLF001  (torch's own switch)


def _kept_registry() -> AbstractContextManager[None]:
    """Building the table of translations takes as long as tracing a small network; it is the same every time."""
    from torch.onnx._internal.exporter import _registration

    registry = _registry()
    return replaced(_registration.ONNXRegistry, "from_torchlib", lambda *_, **__: registry)


def _kept_signatures() -> AbstractContextManager[None]:
    """The signature of an ONNX operator is read from its schema at every use."""
    from onnx_ir import schemas

    found: dict[tuple[str, str, int], Any] = {}
    read = schemas.OpSignature.from_op_schema

    def signature(schema: Any) -> Any:
        key = (schema.domain, schema.name, schema.since_version)
        if key not in found:
            found[key] = read(schema)
        return found[key]

    return replaced(schemas.OpSignature, "from_op_schema", signature)


def _kept_protocols() -> AbstractContextManager[None]:
    """Before Python 3.12 ``isinstance`` with a protocol, as onnx-ir's tensors are, collects its members every time."""
    import typing

    return replaced(typing, "_get_protocol_attrs", cache(typing._get_protocol_attrs))  # type: ignore[attr-defined]  # noqa: SLF001


def _one_trace() -> AbstractContextManager[None]:
    """The second trace, which decomposes what has no translation, takes longer than the first (see ``lowering``)."""
    from torch.onnx._internal.exporter import _fx_passes

    from workers.engine.graph import lowering

    decompose, translated = _fx_passes.decompose_with_registry, _translated()

    def lower(program: Any, table: Any) -> Any:
        if lowering.has_wide_attention(program):
            return program.run_decompositions(_table_without_attention())
        try:
            lowering.lower(program, translated)
        except lowering.NeedsDecompositionError:
            return decompose(program, table)
        return program

    return replaced(_fx_passes, "decompose_with_registry", lower)


def _table_without_attention() -> Any:
    """The exporter's decompositions, and one for attention, which it translates for four axes only."""
    import torch
    from torch.onnx._internal.exporter import _decomp

    attention = torch.ops.aten.scaled_dot_product_attention.default
    return _decomp.create_onnx_friendly_decomposition_table(set(_translated()) - {attention})


def _promotion_where_needed() -> AbstractContextManager[None]:
    """The exporter runs every program once more to write out casts of mixed types; most programs have none."""
    from torch.onnx._internal.exporter import _fx_passes

    promote, needs_cast = _fx_passes.insert_type_promotion_nodes, _needs_cast()

    def where_needed(module: Any) -> None:
        if any(needs_cast(node) for part in module.modules() for node in part.graph.nodes):
            promote(module)

    return replaced(_fx_passes, "insert_type_promotion_nodes", where_needed)


@cache
def _needs_cast() -> Callable[[Any], bool]:
    """Whether the exporter would cast an argument of a node, by its own rules."""
    import torch
    from torch.onnx._internal.fx.passes import type_promotion

    table = type_promotion.TypePromotionTable()
    numbers = {bool: torch.bool, int: torch.int64, float: torch.float32}

    def other(argument: Any, dtype: Any) -> bool:
        if isinstance(argument, list | tuple):
            return any(other(item, dtype) for item in argument)
        own = argument.dtype if isinstance(argument, torch.Tensor) else numbers.get(type(argument))
        return dtype is not None and own != dtype

    def needs_cast(node: Any) -> bool:
        rule = type_promotion.get_type_promotion_rule(node, table)
        if rule is None:
            return False
        args = torch.fx.node.map_arg(node.args, lambda source: source.meta["val"])
        kwargs = torch.fx.node.map_arg(node.kwargs, lambda source: source.meta["val"])
        planned = rule.preview_type_promotion(args, kwargs)
        return any(other(args[index], dtype) for index, dtype in planned.args_dtypes.items()) or any(
            other(kwargs[name], dtype) for name, dtype in planned.kwargs_dtypes.items()
        )

    return needs_cast


SHORTCUTS: tuple[Callable[[], AbstractContextManager[Any]], ...] = (
    _collected_afterwards,
    _without_stack_traces,
    _uncompiled_graphs,
    _kept_registry,
    _kept_signatures,
    _kept_protocols,
    _one_trace,
    _promotion_where_needed,
)
"""Each is a context, independent of the others."""
