from __future__ import annotations

import math

import torch
from torch import nn

from workers.engine.graph.embedding import DIMENSIONS, LARGEST, vector
from workers.engine.graph.export import export_structure


class Block(nn.Module):
    def __init__(self, width: int, kernel: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, kernel, padding=kernel // 2)
        self.second = nn.Conv2d(width, width, kernel, padding=kernel // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


def network(*, width: int = 8, blocks: int = 3, kernel: int = 3) -> nn.Module:
    body = [Block(width, kernel) for _ in range(blocks)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5)]
    return nn.Sequential(nn.Conv2d(3, width, 3), *body, *head)


def chain() -> nn.Module:
    layers = [layer for _ in range(7) for layer in (nn.Conv2d(8, 8, 3, padding=1), nn.Sigmoid())]
    return nn.Sequential(nn.Conv2d(3, 8, 3), *layers, nn.MaxPool2d(14), nn.Flatten(), nn.Linear(8, 5))


def of(build) -> list[int]:
    return vector(export_structure(build, (1, 3, 16, 16)))


def cosine(a: list[int], b: list[int]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_a_vector_is_the_same_for_the_same_structure_and_fits_into_bytes() -> None:
    one, other = of(network), of(network)
    assert one == other
    assert len(one) == DIMENSIONS
    assert max(map(abs, one)) == LARGEST


def test_the_nearer_the_architecture_the_nearer_its_vector() -> None:
    base = of(network)
    deeper, wider = of(lambda: network(blocks=4)), of(lambda: network(width=16))
    other_kernel, unrelated = of(lambda: network(kernel=5)), of(chain)
    assert 1 > cosine(base, deeper) > cosine(base, other_kernel) > cosine(base, unrelated)
    assert 1 > cosine(base, wider) > cosine(base, other_kernel)
