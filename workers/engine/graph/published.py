"""What each tensor of an exported file was in the framework: a parameter, a buffer, or neither.

An ONNX file does not say. A table that the export expands (Swin's position bias, for every pair of positions) and a
mask that it computes look like weights; what the exporter knows is therefore written beside the graph.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir

_KEY = "zooaudit.published"
"""Metadata of the model: ``{"parameters": {name: elements}, "buffers": {name: elements}}`` by initializer."""


@dataclass(frozen=True)
class Published:
    """Elements of each trained parameter and of each buffer, by the name of the tensor; others are computed."""

    parameters: dict[str, int]
    buffers: dict[str, int]


def record(module: Any, model: ir.Model) -> None:
    """Write into a freshly captured model what its module says of every initializer.

    Parameters are trainable; buffers are the other floating-point state that is saved with the model. A tensor that two
    names share is written once.
    """
    found: dict[str, dict[str, int]] = {"parameters": {}, "buffers": {}}
    seen: set[int] = set()
    for name, tensor, trainable in _state(module):
        if name in model.graph.initializers and id(tensor) not in seen and tensor.is_floating_point():
            seen.add(id(tensor))
            found["parameters" if trainable else "buffers"][name] = tensor.numel()
    model.metadata_props[_KEY] = json.dumps(found)


def read(model: ir.Model) -> Published | None:
    """Return what ``record`` wrote, or None for a file that another exporter wrote."""
    text = model.metadata_props.get(_KEY)
    return None if text is None else Published(**json.loads(text))


def _state(module: Any) -> Iterator[tuple[str, Any, bool]]:
    """(name, tensor, trainable) of all that is saved with a torch module or a Keras model."""
    variables = getattr(module, "variables", None)
    if isinstance(variables, list):
        trainable = {id(variable) for variable in module.trainable_variables}
        for variable in variables:
            yield variable.path, variable.value, id(variable) in trainable
    saved = module.state_dict()
    for name, tensor in module.named_parameters(remove_duplicate=False):
        yield name, tensor, tensor.requires_grad
    for name, tensor in module.named_buffers(remove_duplicate=False):
        if name in saved:
            yield name, tensor, False
