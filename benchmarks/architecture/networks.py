"""The networks that the architecture benchmarks start from, as ONNX files whose weights have a shape and no bytes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch
import torchvision

from workers.engine.graph.capture import EXPORT_OPSET
from workers.engine.graph.export import _tidy
from workers.engine.graph.reading import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator
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
)
"""Base networks of the mutation suite; all from torchvision but the text encoders (GELU exact and approximated)."""


class TextEncoder(torch.nn.Module):
    """BERT's encoder (Devlin et al., NAACL 2019) in torch's own layers: embeddings, blocks, pooler, classifier."""

    def __init__(
        self, *, blocks: int = 4, width: int = 128, heads: int = 4, tokens: int = 32, activation: str = "none"
    ) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(1000, width)
        self.positions = torch.nn.Parameter(torch.zeros(1, tokens, width))
        self.norm = torch.nn.LayerNorm(width, eps=1e-12)
        self.blocks = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(
                width,
                heads,
                4 * width,
                activation=torch.nn.GELU(approximate=activation),
                batch_first=True,
                layer_norm_eps=1e-12,
            )
            for _ in range(blocks)
        )
        self.pooler = torch.nn.Linear(width, width)
        self.classifier = torch.nn.Linear(width, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Class scores [n, 2] of token numbers [n, tokens]."""
        hidden = self.norm(self.words(tokens) + self.positions)
        for block in self.blocks:
            hidden = block(hidden)
        return self.classifier(torch.tanh(self.pooler(hidden[:, 0])))


class Sampler(torch.nn.Module):
    """A small network with one of each activation, pool and normalisation, for quick tests."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        for activation in (
            torch.nn.ReLU6(),
            torch.nn.SiLU(),
            torch.nn.GELU(approximate="tanh"),
            torch.nn.Hardswish(),
            torch.nn.ReLU(),
        ):
            layers += [torch.nn.Conv2d(16, 16, 3, padding=1, bias=False), torch.nn.BatchNorm2d(16), activation]
        self.stem = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.layers = torch.nn.ModuleList(layers)
        self.pool = torch.nn.AvgPool2d(3, stride=2, padding=1)
        self.classifier = torch.nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [n, 10] of pictures [n, 3, h, w]."""
        x = torch.nn.functional.max_pool2d(torch.relu(self.stem(x)), 3, stride=2, ceil_mode=True)
        for place in range(0, len(self.layers), 3):
            before = x
            for layer in self.layers[place : place + 3]:
                x = layer(x)
            x = x + before
        x = torch.cat([self.pool(x), torch.nn.functional.max_pool2d(x, 3, stride=2, padding=1)], 1)
        return self.classifier(x.mean((2, 3)))


def build(name: str, size: int | None = None) -> tuple[torch.nn.Module, torch.Tensor]:
    """Return a network in inference mode, its weights uninitialised, and one example input."""
    with _uninitialised():
        if name == "sampler":
            return Sampler().eval(), torch.zeros((1, 3, 30, 30))
        if name.startswith("text_encoder"):
            gelu = "tanh" if name.endswith("tanh") else "none"
            return TextEncoder(activation=gelu).eval(), torch.zeros((1, 32), dtype=torch.int64)
        options: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        if name.startswith("vit_") and size is not None:
            options["image_size"] = size
        module = torchvision.models.get_model(name, weights=None, **options).eval()
    side = size or (299 if name == "inception_v3" else 224)
    return module, torch.zeros((1, 3, side, side))


def export(module: torch.nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write the module as ``export_module`` does, with every large weight left out of the file."""
    # torch's fused encoder layer is no ONNX operator; the plain layers compute the same.
    torch.backends.mha.set_fastpath_enabled(False)
    with quiet(), contextlib.redirect_stdout(None), torch.no_grad():
        program = torch.onnx.export(
            module, (example,), dynamo=True, optimize=False, opset_version=EXPORT_OPSET, verbose=False
        )
        model = program.model
        _tidy(model)
        for value in model.graph.initializers.values():
            tensor = value.const_value
            large = tensor is not None and tensor.size > KEPT_ELEMENTS and tensor.dtype.is_floating_point()
            if large:
                value.const_value = ir.ExternalTensor(
                    "absent", 0, tensor.size * 4, tensor.dtype, shape=ir.Shape(tensor.shape), name=value.name or ""
                )
        path.write_bytes(ir.to_proto(model).SerializeToString())


@contextlib.contextmanager
def _uninitialised() -> Iterator[None]:
    """Skip the random initialisation, which takes most of a large network's construction."""
    names = [name for name in dir(torch.nn.init) if name.endswith("_") and not name.startswith("_")]
    kept = {name: getattr(torch.nn.init, name) for name in names}
    for name in names:
        setattr(torch.nn.init, name, lambda tensor, *_args, **_options: tensor)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(torch.nn.init, name, function)
