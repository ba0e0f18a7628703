"""Keras Applications on the torch backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from workers.engine.protocol import SubjectError, TransientError, UnsafeError, UsageError
from workers.engine.zoos.keras import KerasZoo
from workers.engine.zoos.keras_models import import_keras

if TYPE_CHECKING:
    from pathlib import Path

keras = import_keras()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(keras.src.backend.config, "_KERAS_DIR", str(tmp_path))
    (folder := tmp_path / "models").mkdir()
    return folder


def output(model: object, values: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.from_numpy(values))  # type: ignore[operator, no-any-return]


def test_lists_exactly_the_classifiers_of_the_package() -> None:
    published = {name for name in dir(keras.applications) if name[0].isupper()}
    assert {listing.name for listing in KerasZoo().listings()} == published


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("ResNet50", "nchw"),
        ("DenseNet121", "nhwc"),
        ("MobileNetV2", "nchw"),
        ("EfficientNetB0", "nchw"),
        ("MobileNetV3Small", "nchw"),
    ],
)
def test_random_models_are_seeded_counted_and_alive(name: str, layout: str) -> None:
    zoo = KerasZoo()
    before = keras.config.image_data_format()
    model, again = (zoo.load(zoo.describe(name, "none")) for _ in range(2))
    assert model.artifact == again.artifact
    assert keras.config.image_data_format() == before
    assert model.contract.layout == layout
    claims = {claim.metric: claim.value for claim in model.listing.claims}
    if "parameters" in claims:
        # Keras counts moving statistics as parameters, and in EfficientNet a counter of its Normalization layer.
        assert model.parameters + model.buffers == claims["parameters"] - (name == "EfficientNetB0")  # type: ignore[operator]
    generator = np.random.default_rng(0)
    values = generator.uniform(0, 255, model.contract.input_shape(2)).astype(np.float32) * np.float32(
        model.contract.scale
    )
    a, b = output(model.module, values)
    assert a.device.type == "cpu"
    assert a.shape == (1000,)
    assert torch.isfinite(a).all()
    assert (a - b).abs().max() > 1e-7  # beside softmax's 0.001 a class: the input reaches the output


def test_moving_statistics_are_buffers() -> None:
    zoo = KerasZoo()
    model = zoo.load(zoo.describe("ResNet50", "none"))
    assert (model.parameters, model.buffers) == (25_583_592, 53_120)


def test_both_layouts_compute_the_same() -> None:
    from workers.engine.zoos import keras_models

    zoo = KerasZoo()
    listing = zoo.describe("MobileNetV2", "none")
    first = zoo.load(listing).module
    last = keras_models.build(listing, "nhwc", lambda: keras.applications.MobileNetV2(weights=None))
    last.set_weights(first.get_weights())
    values = np.random.default_rng(0).uniform(-1, 1, (1, 224, 224, 3)).astype(np.float32)
    a, b = output(first, values.transpose(0, 3, 1, 2).copy()), output(last, values)
    assert torch.allclose(a, b, atol=1e-7)


def test_loads_what_the_cache_holds(cache: Path) -> None:
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    zoo = KerasZoo()
    made = zoo.load(zoo.describe("MobileNet", "none")).module
    name = "mobilenet_1_0_224_tf.h5"
    made.layers[1].kernel.assign(made.layers[1].kernel * 0)  # zeros that were loaded must stay zeros
    with h5py.File(cache / name, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, made)  # the format of the published files
    model = zoo.load(zoo.describe("MobileNet", None))
    assert model.artifact.format == "hdf5"
    for ours, theirs in zip(model.module.get_weights(), made.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_refuses_a_whole_model_in_the_cache(cache: Path) -> None:
    import h5py

    with h5py.File(cache / "mobilenet_1_0_224_tf.h5", "w") as file:
        file.attrs["model_config"] = "{}"
    with pytest.raises(UnsafeError, match="whole Keras model"):
        KerasZoo().load(KerasZoo().describe("MobileNet", None))


def test_missing_weights_are_one_sentence_with_the_folder_and_none(cache: Path) -> None:
    with pytest.raises(TransientError) as caught:
        KerasZoo().load(KerasZoo().describe("MobileNet", None))
    assert str(cache) in caught.value.message
    assert "keras:MobileNet@none" in caught.value.message


def test_what_keras_itself_cannot_build_is_a_finding_about_the_model() -> None:
    with pytest.raises(SubjectError, match="keras:NASNetMobile@none cannot be built: ValueError: NASNetMobile is not"):
        KerasZoo().load(KerasZoo().describe("NASNetMobile", "none"))


def test_unknown_names_and_tags_get_near_ones() -> None:
    with pytest.raises(UsageError, match=r"no model 'Resnet50'. Did you mean ResNet50"):
        KerasZoo().describe("Resnet50", None)
    with pytest.raises(UsageError, match=r"no weights tag 'imagenet21k'. Did you mean imagenet"):
        KerasZoo().describe("ResNet50", "imagenet21k")
