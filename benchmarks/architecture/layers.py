"""Networks that no zoo has, for what its architectures lack: text, segmentation, one of each activation."""

from __future__ import annotations

import torch
from torch.nn import functional

TOKENS = 24
"""Length of a text. No other axis of the text networks is as long, so that axes cannot be mistaken."""


class TextEncoder(torch.nn.Module):
    """BERT's encoder (Devlin et al., NAACL 2019) in torch's own layers: embeddings, blocks, pooler, classifier."""

    def __init__(
        self, *, blocks: int = 4, width: int = 128, heads: int = 4, tokens: int = TOKENS, activation: str = "none"
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
        """Class scores [n, 2] of token numbers [n, tokens], floating-point as the exporter gives them."""
        hidden = self.norm(self.words(tokens.long()) + self.positions)
        for block in self.blocks:
            hidden = block(hidden)
        return self.classifier(torch.tanh(self.pooler(hidden[:, 0])))


class Sampler(torch.nn.Module):
    """A small network with one of each activation, pool, normalisation and view, for quick tests."""

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
        x = torch.relu(self.stem(x))
        left, right = x.chunk(2, 1)
        x = torch.cat([right, left], 1).unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)[:, :, 1:]
        x = torch.nn.functional.max_pool2d(x, 3, stride=2, ceil_mode=True)
        for place in range(0, len(self.layers), 3):
            before = x
            for layer in self.layers[place : place + 3]:
                x = layer(x)
            x = x + before
        x = torch.cat([self.pool(x), torch.nn.functional.max_pool2d(x, 3, stride=2, padding=1)], 1)
        return self.classifier(x.mean((2, 3)))


class TextDecoder(torch.nn.Module):
    """LLaMA's decoder (Touvron et al., arXiv 2302.13971) without rotations: RMSNorm first, causal, gated layers."""

    def __init__(self, *, blocks: int = 3, width: int = 128, heads: int = 4) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(1000, width)
        self.blocks = torch.nn.ModuleList(_DecoderBlock(width, heads) for _ in range(blocks))
        self.norm = torch.nn.LayerNorm(width)
        self.head = torch.nn.Linear(width, 1000, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Scores [n, tokens, words] of token numbers [n, tokens], floating-point as the exporter gives them."""
        hidden = self.words(tokens.long())
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(self.norm(hidden))


class _DecoderBlock(torch.nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = torch.nn.Parameter(torch.ones(width))
        self.query, self.key, self.value, self.out = (torch.nn.Linear(width, width) for _ in range(4))
        self.norm = torch.nn.LayerNorm(width)
        self.gate, self.up = (torch.nn.Linear(width, 2 * width, bias=False) for _ in range(2))
        self.down = torch.nn.Linear(2 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale
        query, key, value = (
            layer(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        mask = torch.full((x.shape[1], x.shape[1]), -torch.inf).triu(1)
        mixed = torch.softmax(scores + mask, -1) @ value
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        normed = self.norm(x)
        return x + self.down(functional.silu(self.gate(normed)) * self.up(normed))


class Segmenter(torch.nn.Module):
    """A small U-Net (Ronneberger et al., MICCAI 2015) that samples up once by convolution and twice by resizing."""

    def __init__(self) -> None:
        super().__init__()
        self.down = torch.nn.ModuleList(
            _convolution(before, after) for before, after in ((3, 16), (16, 32), (32, 64), (64, 96))
        )
        self.squeeze = torch.nn.Sequential(
            torch.nn.Conv2d(96, 24, 1), torch.nn.ReLU(), torch.nn.Conv2d(24, 96, 1), torch.nn.Sigmoid()
        )
        self.up = torch.nn.ConvTranspose2d(96, 64, 4, stride=2, padding=1)
        self.join = torch.nn.ModuleList(
            _convolution(before, after) for before, after in ((128, 32), (64, 16), (32, 16))
        )
        self.head = torch.nn.Conv2d(16, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [n, 5, h, w] of pictures [n, 3, h, w]."""
        kept = []
        for stage in self.down:
            x = stage(x)
            kept.append(x)
            x = functional.max_pool2d(x, 2) if len(kept) < len(self.down) else x
        x = x * self.squeeze(x.mean((2, 3), keepdim=True))
        x = self.join[0](torch.cat([self.up(x), kept[2]], 1))
        x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        x = self.join[1](torch.cat([x, kept[1]], 1))
        x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.head(self.join[2](torch.cat([x, kept[0]], 1)))


def _convolution(before: int, after: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(before, after, 3, padding=1, bias=False), torch.nn.BatchNorm2d(after), torch.nn.ReLU()
    )
