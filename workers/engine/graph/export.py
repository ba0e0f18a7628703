"""Exporting a torch module (Keras on its torch backend included) to the ONNX file that everything else reads."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import onnx_ir

from workers.engine.graph import passes, published
from workers.engine.graph.capture import capture
from workers.engine.graph.extract import name_sources
from workers.engine.graph.passes import rewriting as rw
from workers.engine.graph.reading import quiet
from workers.engine.protocol import EngineError, SubjectError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from workers.engine.graph.canonical import CanonicalGraph


def export_module(module: Any, input_shape: Sequence[int], path: Path) -> None:
    """Write a module in inference mode to one ONNX file with its weights inside.

    ``input_shape`` is that of one batch, as the module takes it (NCHW, or NHWC for a channels-last Keras model); all
    dimensions are fixed. Batch-norm is not folded and no bias is added, so that the published parameters and epsilons
    stay visible; onnxruntime folds them when it loads the file, and runs it as fast as the optimised export. Nothing is
    written to standard output. The module is left in eval mode. Raises SubjectError with the exporter's reason.
    """
    with _explained(module, input_shape):
        model = capture(module, input_shape)
        _name_keras_weights(module, model)
        published.record(module, model)
        with quiet():
            _tidy(model)
        onnx_ir.save(model, str(path))


def export_structure(build: Callable[[], Any], input_shape: Sequence[int]) -> CanonicalGraph:
    """Build a torch module with absent weights and return its canonical graph.

    ``build`` is the constructor's call; ``input_shape`` is that of one batch. Large parameters never exist (see
    ``zoos.absent_weights``). The graph is the one that ``export_module`` and ``canonicalise`` give. Raises SubjectError
    when the module cannot be built or exported this way, AbsentValueError when its structure depends on the elements
    of a large weight: such a model has to be exported with its weights.
    """
    from workers.engine.zoos.absent_weights import build_absent

    return structure_of(build_absent(build), input_shape)


def structure_of(module: Any, input_shape: Sequence[int], *, absent: bool = True) -> CanonicalGraph:
    """Return the canonical graph of a module in memory, whose weights may be absent; nothing is written.

    The elements of large weights are not read, unless ``absent`` is False. Raises as ``export_structure``.
    """
    from workers.engine.graph import reading
    from workers.engine.graph.canonical import normalise
    from workers.engine.graph.extract import extract

    with _explained(module, input_shape):
        model = capture(module, input_shape)
        _name_keras_weights(module, model)
        published.record(module, model)
        if absent:
            _forget_weights(model)
        with quiet():
            _tidy(model)
    reading.check(model, type(module).__name__)
    return extract(model, normalise(model))


def _forget_weights(model: Any) -> None:
    """Keep shape and type of every large floating-point weight, and let its memory go."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.dtype.is_floating_point() and tensor.size > rw.EAGER_ELEMENTS:
            value.const_value = rw.absent_tensor(tuple(tensor.shape), tensor.dtype, value.name or "weight")


@contextlib.contextmanager
def _explained(module: Any, input_shape: Sequence[int]) -> Iterator[None]:
    """Turn whatever the exporter raises into a SubjectError with the reason."""
    try:
        yield
    except EngineError:
        raise
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
