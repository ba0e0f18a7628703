"""The one implementation of input contracts against each zoo's own code, on real pictures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from workers.engine.contracts.apply import apply, batch
from workers.engine.contracts.contract import Contract
from workers.engine.protocol import UsageError

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.fixture(scope="module", params=["china.jpg", "flower.jpg", "tall"])
def picture(request: pytest.FixtureRequest) -> Image.Image:
    from sklearn.datasets import load_sample_image

    if request.param == "tall":
        return Image.fromarray(load_sample_image("china.jpg")).rotate(90, expand=True).crop((3, 0, 400, 633))
    return Image.fromarray(load_sample_image(request.param))


@pytest.mark.parametrize(
    ("resize", "crop", "interpolation"),
    [
        (256, 224, "bilinear"),
        (232, 224, "bilinear"),
        (342, 299, "bilinear"),
        (384, 384, "bicubic"),
        (200, 224, "bilinear"),
    ],
)
def test_equals_torchvision_bit_for_bit(picture: Image.Image, resize: int, crop: int, interpolation: str) -> None:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms._presets import ImageClassification

    theirs = ImageClassification(crop_size=crop, resize_size=resize, interpolation=InterpolationMode(interpolation))(
        picture
    ).numpy()
    contract = Contract(crop, crop, resize=resize, crop=(crop, crop), interpolation=interpolation, **IMAGENET)
    ours = apply(contract, picture)
    assert ours.dtype == np.float32
    assert ours.shape == (3, crop, crop)
    np.testing.assert_array_equal(ours, theirs)


def test_squash_resizes_without_keeping_the_aspect_ratio(picture: Image.Image) -> None:
    contract = Contract(224, 224, resize=(224, 224), interpolation="bicubic", scale=1.0)
    theirs = np.asarray(picture.resize((224, 224), Image.Resampling.BICUBIC), np.float32).transpose(2, 0, 1)
    np.testing.assert_array_equal(apply(contract, picture), theirs)


def test_no_antialias_equals_torch_interpolate(picture: Image.Image) -> None:
    import torch

    contract = Contract(100, 140, resize=(100, 140), antialias=False, scale=1.0)
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].double()
    theirs = torch.nn.functional.interpolate(pixels, (100, 140), mode="bilinear", align_corners=False)[0].numpy()
    # Both round to whole pixel values; ties may go either way.
    assert np.abs(apply(contract, picture) - theirs).max() <= 0.5 + 1e-9


def test_colour_orders_and_layouts(picture: Image.Image) -> None:
    base = Contract(64, 64, resize=(64, 64), scale=1.0)
    rgb = apply(base, picture)
    bgr = apply(dataclasses.replace(base, colour="bgr"), picture)
    np.testing.assert_array_equal(rgb[::-1], bgr)
    last = apply(dataclasses.replace(base, layout="nhwc"), picture)
    np.testing.assert_array_equal(rgb.transpose(1, 2, 0), last)
    # The mean follows the colour order: the first entry belongs to blue.
    shifted = apply(dataclasses.replace(base, colour="bgr", mean=(1.0, 0.0, 0.0)), picture)
    np.testing.assert_array_equal(shifted[0], bgr[0] - 1)
    np.testing.assert_array_equal(shifted[2], bgr[2])


def test_grey_pictures_keep_their_values() -> None:
    digits = np.arange(64, dtype=np.uint8).reshape(8, 8)
    contract = Contract(8, 8, colour="grey", scale=1 / 16, mean=(0.0,), std=(1.0,))
    expected = digits.astype(np.float32) / 16
    np.testing.assert_array_equal(apply(contract, digits)[0], expected)
    np.testing.assert_array_equal(apply(contract, digits[..., None])[0], expected)
    assert batch(contract, np.stack([digits, digits])).shape == contract.input_shape(2)


@pytest.mark.parametrize("wrong", [np.zeros((8, 8), np.float32), np.zeros((8, 8, 4), np.uint8), np.zeros(8, np.uint8)])
def test_refuses_what_is_no_picture(wrong: np.ndarray) -> None:
    with pytest.raises(UsageError, match="uint8 of shape"):
        apply(Contract(8, 8), wrong)


def test_refuses_another_size_when_the_contract_neither_resizes_nor_crops() -> None:
    with pytest.raises(UsageError, match="8 x 8 pixels and does not crop, but this one has 9 x 7"):
        apply(Contract(8, 8), np.zeros((7, 9, 3), np.uint8))


def test_refuses_bicubic_without_antialias() -> None:
    with pytest.raises(UsageError, match="nearest or bilinear, not by bicubic"):
        apply(Contract(4, 4, resize=4, antialias=False, interpolation="bicubic"), np.zeros((8, 8, 3), np.uint8))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 60), st.integers(1, 60))
def test_any_size_gives_the_contracts_shape_as_torchvision_does(
    height: int, width: int, resize: int, crop: int
) -> None:
    from torchvision.transforms import functional

    noise = np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ours = apply(Contract(crop, crop, resize=resize, crop=(crop, crop), scale=1.0), noise)
    theirs = functional.center_crop(functional.resize(Image.fromarray(noise), [resize]), [crop, crop])
    np.testing.assert_array_equal(ours, np.asarray(theirs, np.float32).transpose(2, 0, 1))


def test_contracts_survive_json_and_the_digest_ignores_the_source() -> None:
    a = Contract(224, 224, resize=(256, 256), crop=(224, 224), source="x", **IMAGENET)
    assert Contract.from_json(a.to_json()) == a
    assert a.digest() == dataclasses.replace(a, source="y").digest()
    assert a.digest() != dataclasses.replace(a, antialias=False).digest()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"colour": "grey", "mean": (0.5, 0.5, 0.5)}, "mean has 3 values, but grey pictures have 1"),
        ({"std": (0.5,)}, "std has 1 values, but rgb pictures have 3"),
        ({"std": (1.0, 0.0, 1.0)}, "not zero"),
        ({"scale": 0.0}, "not zero"),
        ({"mean": (float("nan"), 0.0, 0.0)}, "finite"),
        ({"fill": (0, 256, 0)}, "0 to 255"),
        ({"fit": "cover", "resize": 256}, "needs a resize to"),
        ({"fit": "squash"}, "fit is 'squash'; it is one of stretch, cover, contain"),
        ({"resize": (1, 2, 3)}, r"resize is \(1, 2, 3\)"),
        ({"crop": 224}, r"crop is 224; it is \[height, width\]"),
        ({"width": 0}, "width is 0"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Contract(**({"height": 8, "width": 8} | fields))


def test_each_channel_has_its_mean_std_and_fill() -> None:
    assert (Contract(8, 8).mean, Contract(8, 8).std) == ((0.0,) * 3, (1.0,) * 3)
    grey = Contract(8, 8, colour="grey")
    assert (grey.mean, grey.std, grey.fill) == ((0.0,), (1.0,), (0,))
    assert apply(grey, np.zeros((8, 8), np.uint8)).shape == (1, 8, 8)


@pytest.mark.parametrize("scale", [1 / 255, 1 / 127.5, 1.0, 1 / 16, 16 / 255, 40.0, -1 / 255, 1e-12])
def test_scales_are_applied_within_one_unit_in_the_last_place(scale: float) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    made = apply(Contract(16, 16, colour="grey", scale=scale), values)[0]
    expected = (values.astype(np.float64) * scale).astype(np.float32)
    assert (np.abs(made - expected) <= np.spacing(np.abs(expected))).all()
