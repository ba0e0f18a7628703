"""What the zoos of ONNX files share: the checked file as a model, and its input as a contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.engine.contracts.contract import Contract
from workers.engine.protocol import SubjectError
from workers.engine.safety.onnx_files import check_onnx
from workers.engine.zoos import artifacts
from workers.engine.zoos.base import Model

if TYPE_CHECKING:
    from pathlib import Path

    from workers.engine.zoos.base import Listing

_DEFAULT_SIDE = 224
"""Height and width where the graph leaves them open."""
_PICTURE_RANK = 4
_CHANNELS = (1, 3)


def load_onnx(listing: Listing, path: Path) -> Model:
    """Check an ONNX file and return it as a model; its parameters are counted from its canonical graph, not here."""
    check_onnx(path)
    shape, name = _input_of(path)
    contract = listing.contract or bare_contract(shape, f"shape of input {name!r}", str(path))
    notes = [] if listing.contract else ["The input contract is not documented: only its shape is known."]
    return Model(listing, artifacts.of_file(path, "onnx"), contract, onnx=path, notes=notes)


def bare_contract(shape: list[Any], source: str, where: str) -> Contract:
    """Return the contract of an input of which only the shape is known: pixels 0-255 as they are.

    ``shape`` has four axes with 1 or 3 channels in the second or last place; open sides become 224. Raises
    SubjectError for any other input.
    """
    if len(shape) == _PICTURE_RANK:
        for layout, channels, height, width in (("nchw", *shape[1:]), ("nhwc", shape[3], shape[1], shape[2])):
            if channels in _CHANNELS:
                return Contract(
                    height=height if isinstance(height, int) and height > 0 else _DEFAULT_SIDE,
                    width=width if isinstance(width, int) and width > 0 else _DEFAULT_SIDE,
                    colour="grey" if channels == 1 else "rgb",
                    scale=1.0,
                    layout=layout,
                    source=source,
                )
    raise SubjectError(
        "not-a-picture-model",
        f"{where} takes an input of shape {shape}; only models of pictures (four axes, 1 or 3 channels) can be run.",
    )


def _input_of(path: Path) -> tuple[list[Any], str]:
    """Return (shape, name) of the one input; an open dimension is its name or None."""
    import onnx  # slow to import

    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}  # before IR version 4 these are listed as inputs too
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise SubjectError(
            "inputs", f"{path} has {len(inputs)} inputs; only models with exactly one, a picture, can be run."
        )
    axes = inputs[0].type.tensor_type.shape.dim
    return [axis.dim_value if axis.HasField("dim_value") else (axis.dim_param or None) for axis in axes], inputs[0].name
