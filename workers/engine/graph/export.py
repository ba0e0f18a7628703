"""Exporting a torch module (Keras on its torch backend included) to the ONNX file that everything else reads."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import TYPE_CHECKING, Any

from workers.engine.graph import passes
from workers.engine.graph.extract import name_sources
from workers.engine.graph.reading import quiet
from workers.engine.protocol import SubjectError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

EXPORT_OPSET = 20
"""The opset of exported files: the canonical form's own, so that nothing has to be converted."""


def export_module(module: Any, input_shape: Sequence[int], path: Path) -> None:
    """Write a module in inference mode to one ONNX file with its weights inside.

    ``input_shape`` is that of one batch, as the module takes it (NCHW, or NHWC for a channels-last Keras model); all
    dimensions are fixed. Batch-norm is not folded and no bias is added, so that the published parameters and epsilons
    stay visible; onnxruntime folds them when it loads the file, and runs it as fast as the optimised export. Nothing is
    written to standard output. The module is left in eval mode. Raises SubjectError with the exporter's reason.
    """
    import torch

    module.eval()
    example = torch.zeros(tuple(input_shape), dtype=torch.float32)
    try:
        with quiet(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
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
            _name_keras_weights(module, program.model)
            _tidy(program.model)
            program.save(str(path), external_data=False)
    except Exception as error:  # the exporter raises many kinds; all say that this model cannot be exported
        raise SubjectError(
            "export-failed",
            f"{type(module).__name__} cannot be exported to ONNX with input shape {tuple(input_shape)}: "
            f"{_reason(error)}",
        ) from error


def _tidy(model: Any) -> None:
    """Remove what the unoptimised export computes at every call, so that onnxruntime can fuse as usual.

    Without this a bias of zeros is expanded from the input's type in front of every convolution, and onnxruntime no
    longer folds the batch-norm behind it (measured: ResNet-50 1.3 times, MobileNetV2 2.5 times slower). Keras writes
    batch-norm as arithmetic and turns channels-last tensors around every convolution; both become what they stand for.
    """
    passes.prepare(model)
    name_sources(model)
    passes.run(model, passes.EXPORT)


def _reason(error: BaseException) -> str:
    """Return the innermost cause's first line; the exporter wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _name_keras_weights(module: Any, model: Any) -> None:
    """Give the weights of a Keras model their variables' paths.

    Keras variables are no torch parameters, so the exporter calls them ``lifted_tensor_0`` and so on; the memory that
    they share tells which is which.
    """
    variables = getattr(module, "variables", None)
    if not isinstance(variables, list):
        return
    paths = {variable.value.data_ptr(): variable.path for variable in variables if hasattr(variable, "path")}
    taken = set(model.graph.initializers)
    for name, value in list(model.graph.initializers.items()):
        raw = getattr(value.const_value, "raw", None)
        path = paths.get(raw.data_ptr()) if raw is not None and hasattr(raw, "data_ptr") else None
        if path is not None and name.startswith("lifted_tensor") and path not in taken:
            value.name = path
            taken.add(path)
