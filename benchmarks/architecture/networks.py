"""The networks that the architecture benchmarks start from, as ONNX files whose weights have a shape and no bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch
import torchvision

from architecture.layers import TOKENS, Sampler, Segmenter, TextDecoder, TextEncoder
from workers.engine.graph import passes
from workers.engine.graph.capture import capture
from workers.engine.graph.reading import quiet
from workers.engine.zoos.random_weights import skipped_draws

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEPT_ELEMENTS = 4096
"""Constants up to this size stay: the canonical form looks into them (see ``passes.rewriting.EAGER_ELEMENTS``)."""

MUTATED = (
    "resnet18",
    "resnet50",
    "vgg16_bn",
    "densenet121",
    "googlenet",
    "inception_v3",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "squeezenet1_1",
    "mnasnet0_5",
    "convnext_tiny",
    "regnet_y_400mf",
    "vit_b_16",
    "text_encoder",
    "text_encoder_tanh",
    "text_decoder",
    "segmenter",
)
"""Base networks of the mutation suite; all from torchvision but the last four, which ``layers`` has."""


def build(name: str, size: int | None = None) -> tuple[torch.nn.Module, torch.Tensor]:
    """Return a network in inference mode, its random weights not drawn, and one example input."""
    with skipped_draws():
        if name in _OWN:
            make, shape = _OWN[name]
            return make().eval(), torch.zeros(shape)
        options: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        if name.startswith("vit_") and size is not None:
            options["image_size"] = size
        module = torchvision.models.get_model(name, weights=None, **options).eval()
    side = size or (299 if name == "inception_v3" else 224)
    return module, torch.zeros((1, 3, side, side))


_OWN: dict[str, tuple[Callable[[], torch.nn.Module], tuple[int, ...]]] = {
    "sampler": (Sampler, (1, 3, 30, 30)),
    "text_encoder": (TextEncoder, (1, TOKENS)),
    "text_encoder_tanh": (lambda: TextEncoder(activation="tanh"), (1, TOKENS)),
    "text_decoder": (TextDecoder, (1, TOKENS)),
    "segmenter": (Segmenter, (1, 3, 64, 64)),
}


def export(module: torch.nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write the module as ``export_module`` does, with every large weight left out of the file."""
    # torch's fused encoder layer is no ONNX operator; the plain layers compute the same.
    torch.backends.mha.set_fastpath_enabled(False)
    model = capture(module, example.shape)
    with quiet():
        passes.prepare(model)
        passes.run(model, passes.EXPORT)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        large = tensor is not None and tensor.size > KEPT_ELEMENTS and tensor.dtype.is_floating_point()
        if large:
            value.const_value = ir.ExternalTensor(
                "absent", 0, tensor.size * 4, tensor.dtype, shape=ir.Shape(tensor.shape), name=value.name or ""
            )
    path.write_bytes(ir.to_proto(model).SerializeToString())
