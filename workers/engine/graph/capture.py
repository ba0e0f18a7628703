"""From a torch module to an ``onnx_ir`` model in memory, without weights if they are absent."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import TYPE_CHECKING, Any

from workers.engine.graph.passes.constants import OPSET
from workers.engine.graph.reading import quiet
from workers.engine.graph.shortcuts import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

EXPORT_OPSET = OPSET
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
        shortened(),
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
