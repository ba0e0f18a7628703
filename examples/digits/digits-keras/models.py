"""Builders of the Keras digits zoo. Each returns an untrained model that takes NHWC and answers with probabilities."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

CLASSES = 10

BATCH_NORM_EPSILON = 1.001e-5
"""As in Keras Applications; PyTorch's is 1e-5."""

BATCH_NORM_MOMENTUM = 0.9
"""Keras' default of 0.99 needs more steps than a training of seconds has."""


def lenet5() -> keras.Model:
    """LeNet-5 for 32x32 pictures, with relu and max pooling as modern rewrites have it."""
    inputs = keras.Input((32, 32, 1))
    x = layers.Conv2D(6, 5, activation="relu")(inputs)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(16, 5, activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(120, activation="relu")(x)
    x = layers.Dense(84, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x), name="lenet5")


def vgg_small() -> keras.Model:
    """Three stages of two 3x3 convolutions, for 16x16 pictures, after Simonyan and Zisserman 2015."""
    inputs = keras.Input((16, 16, 1))
    x = inputs
    for width in (16, 32, 64):
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x), name="vgg_small")


def _normalised(x: Any, filters: int, kernel: int, stride: int = 1) -> Any:  # noqa: ANN401 - a symbolic tensor
    # The bias is redundant before the normalisation; Keras Applications has it too.
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same")(x)
    return layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)(x)


def _bottleneck(x: Any, width: int, stride: int) -> Any:  # noqa: ANN401
    """1x1, 3x3, 1x1 with a shortcut. The first 1x1 convolution carries the stride ("v1")."""
    shortcut = x
    if stride != 1 or x.shape[-1] != 4 * width:
        shortcut = _normalised(x, 4 * width, 1, stride)
    y = layers.ReLU()(_normalised(x, width, 1, stride))
    y = layers.ReLU()(_normalised(y, width, 3))
    y = _normalised(y, 4 * width, 1)
    return layers.ReLU()(layers.Add()([y, shortcut]))


def resnet_small() -> keras.Model:
    """A ResNet of three bottleneck stages, two blocks each, for 16x16 pictures, after He et al. 2016."""
    inputs = keras.Input((16, 16, 1))
    x = layers.ReLU()(_normalised(inputs, 16, 3))
    x = layers.ZeroPadding2D(1)(x)
    x = layers.MaxPooling2D(3, strides=2)(x)
    for width, stride in ((8, 1), (16, 2), (32, 2)):
        for block in range(2):
            x = _bottleneck(x, width, stride if block == 0 else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x), name="resnet_small")


def mlp() -> keras.Model:
    """Two hidden layers of 64 units on the 8x8 picture itself."""
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(inputs)
    x = layers.Dense(64, activation="relu")(x)
    x = layers.Dense(64, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x), name="mlp")
