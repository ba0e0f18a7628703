"""Builders of the PyTorch digits zoo. Each returns an untrained module that takes NCHW and answers with logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

CLASSES = 10


def lenet5() -> nn.Module:
    """LeNet-5 for 32x32 pictures, with tanh and average pooling as in LeCun et al. 1998."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        nn.Tanh(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Linear(84, CLASSES),
    )


def vgg_small() -> nn.Module:
    """Three stages of two 3x3 convolutions, for 16x16 pictures, after Simonyan and Zisserman 2015."""
    layers: list[nn.Module] = []
    channels = 1
    for width in (16, 32, 64):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    head = [nn.Flatten(), nn.Linear(64 * 2 * 2, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, CLASSES)]
    return nn.Sequential(*layers, *head)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut. The 3x3 convolution carries the stride ("v1.5")."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        """Build a block from ``channels`` to 4 x ``width`` channels."""
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to (n, 4 x width, h / stride, w / stride)."""
        result: Tensor = nn.functional.relu(self.body(x) + self.shortcut(x))
        return result


def resnet_small() -> nn.Module:
    """A ResNet of three bottleneck stages, two blocks each, for 16x16 pictures, after He et al. 2016."""
    stem = [nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    layers: list[nn.Module] = [*stem]
    channels = 16
    for width, stride in ((8, 1), (16, 2), (32, 2)):
        for block in range(2):
            layers.append(Bottleneck(channels, width, stride if block == 0 else 1))
            channels = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def mlp() -> nn.Module:
    """Two hidden layers of 64 units on the 8x8 picture itself."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES)
    )
