"""From a torch module to an ``onnx_ir`` model in memory, without weights if they are absent."""

from __future__ import annotations

import contextlib
import io
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

from workers.engine.graph.reading import quiet
from workers.engine.zoos.replaced import replaced

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import onnx_ir as ir

EXPORT_OPSET = 20
"""The opset of exported models: the canonical form's own, so that nothing has to be converted."""


def capture(module: Any, input_shape: Sequence[int]) -> ir.Model:
    """Trace a module in inference mode with fixed shapes and translate it to ONNX, unoptimised.

    Weights that are absent (``zoos.absent_weights``) stay absent: nothing is run. Nothing is written to standard
    output. The module is left in eval mode. Raises whatever torch's exporter raises.
    """
    import torch

    from workers.engine.zoos.absent_weights import fake_mode

    module.eval()
    with fake_mode(module) or contextlib.nullcontext():
        example = torch.zeros(tuple(input_shape), dtype=torch.float32)
    with (
        quiet(),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        torch.no_grad(),
        _without_second_trace(),
    ):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            # The optimiser would fold batch-norm into convolutions, which loses the epsilon and adds biases.
            optimize=False,
            opset_version=EXPORT_OPSET,
            verbose=False,
        )
    return program.model


@cache
def _registry() -> Any:
    """The exporter's table of translations; building it takes as long as tracing a small network."""
    from torch.onnx._internal.exporter import _registration

    return _registration.ONNXRegistry.from_torchlib(opset_version=EXPORT_OPSET)


@cache
def _translated() -> frozenset[Any]:
    """Operators that the exporter translates."""
    from torch.onnx._internal.exporter import _decomp

    return frozenset(_decomp.get_onnx_implemented_overloads(_registry()))


def _table_without_attention() -> Any:
    """The exporter's decompositions, and one for attention, which it translates for four axes only."""
    import torch
    from torch.onnx._internal.exporter import _decomp

    attention = torch.ops.aten.scaled_dot_product_attention.default
    return _decomp.create_onnx_friendly_decomposition_table(set(_translated()) - {attention})


def prepare() -> None:
    """Build the exporter's tables before the first export; a process that forks exporters does this once for all."""
    _translated()


@contextlib.contextmanager
def _without_second_trace() -> Iterator[None]:
    """Have the exporter keep its tables, and rewrite by ``lowering`` what it would trace again.

    The exporter offers no public way to do either; where a torch release has moved these functions, it works as ever.
    """
    try:
        from torch.onnx._internal.exporter import _fx_passes, _registration

        from workers.engine.graph import lowering

        decompose = _fx_passes.decompose_with_registry
        registry, translated = _registry(), _translated()
    except (ImportError, AttributeError):
        yield
        return

    def lower(program: Any, table: Any) -> Any:
        if lowering.has_wide_attention(program):
            return program.run_decompositions(_table_without_attention())
        try:
            lowering.lower(program, translated)
        except lowering.NeedsDecompositionError:
            return decompose(program, table)
        return program

    with (
        replaced(_registration.ONNXRegistry, "from_torchlib", lambda *_, **__: registry),
        replaced(_fx_passes, "decompose_with_registry", lower),
    ):
        yield
