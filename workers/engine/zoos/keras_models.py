"""What the Keras zoos share: the backend, seeded weights, counts and artifacts of Keras models."""

from __future__ import annotations

import math
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from workers.engine.protocol import EngineError, SubjectError, UsageError
from workers.engine.zoos import artifacts
from workers.engine.zoos.base import SEED
from workers.engine.zoos.random_weights import draw, gain
from workers.engine.zoos.replaced import replaced
from workers.engine.zoos.torch_models import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workers.engine.zoos.base import Artifact, Listing

_KERNEL_RANK = 2


def import_keras() -> Any:
    """Import Keras on its torch backend; raises UsageError when this process already has it on another."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "torch"
    import keras  # the backend is fixed by the first import

    if keras.backend.backend() != "torch":
        raise UsageError(
            "keras-backend", f"Keras runs on {keras.backend.backend()} here; set KERAS_BACKEND=torch and start again."
        )
    return keras


@contextmanager
def _construction(layout: str) -> Iterator[None]:
    """Build for one layout, on the CPU, without drawing the initial weights at random."""
    keras = import_keras()
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first" if layout == "nchw" else "channels_last")
    random = keras.src.backend.random

    def zeros(shape: Any, *_: Any, dtype: Any = None, **__: Any) -> Any:
        return keras.ops.zeros(shape, dtype=dtype or "float32")

    try:
        with (
            keras.device("cpu"),
            replaced(random, "uniform", zeros),
            replaced(random, "normal", zeros),
            replaced(random, "truncated_normal", zeros),
        ):
            yield
    finally:
        keras.config.set_image_data_format(before)


def build(listing: Listing, layout: str, make: Callable[[], Any], *, loads: bool = False) -> Any:
    """Run a constructor with its random draws replaced by seeded values; raises SubjectError when it fails.

    ``loads`` says that the constructor loads weights itself, which stay as they are.
    """
    try:
        keras = import_keras()
        with _construction(layout):
            keras.utils.clear_session(free_memory=False)  # layer names must not depend on what was built before
            model = make()
        if not loads:
            fill(model)
    except EngineError:
        raise
    except Exception as error:  # a stranger's constructor may raise anything
        raise SubjectError(
            "cannot-build", f"{listing.ref} cannot be built: {type(error).__name__}: {first_line(error)}"
        ) from error
    model.eval()
    return model


def fill(model: Any) -> None:
    """Give all variables that a draw would have filled (they are zero now) their seeded values.

    Kernels have the output last in Keras, so fan-in is the product of the other axes; a depthwise kernel of
    (height, width, channels, multiplier) sees height * width inputs. Vectors, constants and statistics stay.
    """
    layers = import_keras().layers
    depthwise = {id(variable) for variable in model.variables if variable.name == "depthwise_kernel"}
    for layer in model._flatten_layers():  # Keras' own walk into nested models  # noqa: SLF001  (no public way)
        if isinstance(layer, layers.DepthwiseConv1D | layers.DepthwiseConv2D):
            depthwise.update(id(variable) for variable in layer.variables if variable.name == "kernel")
    generator = torch.Generator().manual_seed(SEED)
    scale = gain(
        getattr(getattr(layer, "activation", None), "__name__", type(layer).__name__)
        for layer in model._flatten_layers()  # noqa: SLF001  (no public way)
    )
    for variable in model.variables:
        value = variable.value
        if value.ndim < _KERNEL_RANK or not value.is_floating_point() or bool(value.any()):
            continue
        axes = value.shape[:-2] if id(variable) in depthwise else value.shape[:-1]
        with torch.no_grad():
            draw(value, math.prod(axes) / scale, generator)


def counts(model: Any) -> tuple[int, int]:
    """Count (trainable elements, floating-point elements that training does not update by gradient)."""
    trainable = {id(variable) for variable in model.trainable_variables}
    sizes = [(id(v) in trainable, v.value.numel()) for v in model.variables if v.value.is_floating_point()]
    return sum(size for is_trainable, size in sizes if is_trainable), sum(size for yes, size in sizes if not yes)


def memory_artifact(model: Any) -> Artifact:
    """Return the artifact of a Keras model in memory: its variables by path."""
    # The states of dropout's generators are random, and no part of what the model computes.
    kept = [variable for variable in model.variables if variable.name != "seed_generator_state"]
    return artifacts.of_state({f"{index:05d}/{v.path}": v.value for index, v in enumerate(kept)})
