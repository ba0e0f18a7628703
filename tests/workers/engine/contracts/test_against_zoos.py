"""The one implementation of input contracts against each zoo's own code, from the file to the network's input."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from workers.engine.accuracy.datasets import open_dataset
from workers.engine.contracts.apply import apply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from workers.engine.contracts.contract import Contract

ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class folder of pictures as they come: every shape and mode that the zoos' readers meet."""
    from sklearn.datasets import load_sample_image

    root = tmp_path_factory.mktemp("pictures")
    (root / "class").mkdir()
    landscape = Image.fromarray(load_sample_image("china.jpg"))
    portrait = Image.fromarray(load_sample_image("flower.jpg")).rotate(90, expand=True).crop((3, 0, 400, 633))
    noise = np.random.default_rng(0)
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    pictures: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "cmyk.jpg": (landscape.convert("CMYK"), {}),
        "deep.png": (Image.fromarray(noise.integers(0, 2**16, (60, 80), dtype=np.uint16)), {}),
        "grey.jpg": (landscape.convert("L"), {}),
        "grey-alpha.png": (portrait.convert("LA"), {}),
        "huge.jpg": (landscape.resize((2901, 1933)), {}),
        "landscape.jpg": (landscape, {}),
        "line.png": (Image.fromarray(noise.integers(0, 256, (1, 9, 3), dtype=np.uint8)), {}),
        "one-bit.png": (portrait.convert("1"), {}),
        "palette.png": (landscape.convert("P", palette=Image.Palette.ADAPTIVE), {"transparency": 3}),
        "portrait.png": (portrait, {}),
        "rgba.png": (Image.fromarray(noise.integers(0, 256, (77, 90, 4), dtype=np.uint8)), {}),
        "tiny.png": (Image.fromarray(noise.integers(0, 256, (5, 3, 3), dtype=np.uint8)), {}),
        "turned.jpg": (landscape, {"exif": turned}),
    }
    for name, (picture, options) in pictures.items():
        picture.save(root / "class" / name, **options)
    return root


def ours(folder: Path, contract: Contract) -> dict[str, NDArray[np.float32]]:
    """Return what this project makes of each file, by name, through its own reader."""
    dataset = open_dataset({"name": "pictures", "format": "folder", "path": str(folder)})
    files = sorted(path.name for path in (folder / "class").iterdir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PIL's about palettes with transparency
        return {name: apply(contract, picture) for name, (picture, _) in zip(files, dataset, strict=True)}


def check(folder: Path, contract: Contract | None, theirs: Callable[[Path], NDArray[np.float32]]) -> None:
    """Compare every file bit for bit."""
    assert contract is not None
    found = ours(folder, contract)
    assert len(found) == 13
    for name, made in found.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            expected = theirs(folder / "class" / name)
        assert made.dtype == expected.dtype == np.float32
        assert made.shape == contract.input_shape()[1:]
        np.testing.assert_array_equal(made, expected, err_msg=name)


@functools.cache
def torchvision_transforms() -> dict[str, str]:
    """Every distinct transform of torchvision's classification weights, as ``name@tag`` by its contract's digest."""
    from workers.engine.zoos.torchvision import TorchvisionZoo

    found: dict[str, str] = {}
    for listing in TorchvisionZoo().listings():
        assert listing.contract is not None
        found.setdefault(listing.contract.digest(), f"{listing.name}@{listing.weights}")
    return found


def test_every_torchvision_transform_has_its_contract() -> None:
    """No two enums with different transforms share a contract, so one listing a contract speaks for all."""
    from torchvision.models import get_model_weights, list_models

    from workers.engine.zoos.torchvision import TorchvisionZoo

    digests: dict[str, set[str]] = {}
    for name in list_models(module=__import__("torchvision").models):
        for member in get_model_weights(name):
            contract = TorchvisionZoo().describe(name, member.name).contract
            assert contract is not None
            transform = member.transforms()
            digests.setdefault(contract.digest(), set()).add(f"{type(transform).__name__} {vars(transform)}")
    assert sum(map(len, digests.values())) == len(digests) == len(torchvision_transforms()) >= 28


def test_torchvision_bit_for_bit_for_every_transform(folder: Path) -> None:
    from torchvision.datasets.folder import pil_loader
    from torchvision.models import get_model_weights

    from workers.engine.zoos.torchvision import TorchvisionZoo

    for listing in torchvision_transforms().values():
        name, _, tag = listing.partition("@")
        transform = get_model_weights(name)[tag].transforms()
        check(
            folder,
            TorchvisionZoo().describe(name, tag).contract,
            lambda path, transform=transform: transform(pil_loader(str(path))).numpy(),  # type: ignore[misc]
        )


TIMM = {
    "resnet50.a1_in1k": "bicubic, crop_pct 0.95",
    "cspdarknet53.ra_in1k": "bilinear, crop_pct 0.887 of 256",
    "mobilenetv3_large_100.ra_in1k": "bicubic, crop_pct 0.875",
    "fastvit_t8.apple_in1k": "crop_pct 0.9 of 256",
    "csatv2.r512_in1k": "bilinear, crop_pct 1 of 512, zero mean",
    "beit_base_patch16_224.in22k_ft_in22k": "mean 0.5",
    "convnext_base.clip_laion2b_augreg_ft_in12k_in1k_384": "squash",
    "vit_base_patch16_lingbot.robbyant": "bilinear squash",
    "vit_base_patch16_sapiens2.fb": "squash to an oblong",
    "deepseek_vit_412m.deepseek_v4_flash_vision_exp": "border",
}


@pytest.mark.parametrize("name", TIMM)
def test_timm_bit_for_bit(folder: Path, name: str) -> None:
    from timm.data import ImageDataset, create_transform, resolve_data_config
    from timm.models import get_pretrained_cfg

    from workers.engine.zoos.timm import TimmZoo

    config = resolve_data_config(pretrained_cfg=get_pretrained_cfg(name).to_dict())
    dataset = ImageDataset(str(folder), transform=create_transform(**config, is_training=False))
    found = {dataset.filename(index, basename=True): dataset[index][0].numpy() for index in range(len(dataset))}
    check(folder, TimmZoo().describe(name, None).contract, lambda path: found[path.name])


def test_the_sample_of_timm_has_every_shape_that_its_tags_have() -> None:
    """Kernel, crop mode and form of the input, over all pretrained tags."""
    from timm import list_pretrained
    from timm.data import resolve_data_config
    from timm.models import get_pretrained_cfg

    def shape(name: str) -> tuple[Any, ...]:
        config = resolve_data_config(pretrained_cfg=vars(get_pretrained_cfg(name)))
        _, height, width = config["input_size"]
        return config["interpolation"], config["crop_mode"], height == width

    assert {shape(name) for name in list_pretrained()} == {shape(name) for name in TIMM}


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(3, 96, 64), (3, 61, 90), (3, 75, 75)])
def test_timm_bit_for_bit_where_no_tag_has_been_yet(
    folder: Path, mode: str, interpolation: str, size: tuple[int, int, int]
) -> None:
    """Every kernel, crop mode and form; lanczos and oblong centre crops are words that timm has and no tag uses."""
    from timm.data import create_transform
    from timm.models._pretrained import PretrainedCfg
    from torchvision.datasets.folder import pil_loader

    from workers.engine.zoos.timm import _contract

    config = PretrainedCfg(input_size=size, crop_mode=mode, interpolation=interpolation, crop_pct=0.9, num_classes=10)
    transform = create_transform(
        size, is_training=False, crop_mode=mode, interpolation=interpolation, crop_pct=0.9, mean=config.mean
    )
    check(folder, _contract("any", "tag", config), lambda path: transform(pil_loader(str(path))).numpy())


@functools.cache
def keras_families() -> dict[str, str]:
    """Each module of Keras Applications with one of its models."""
    from workers.engine.zoos.keras import _models
    from workers.engine.zoos.keras_models import import_keras

    keras = import_keras()
    return {getattr(keras.applications, name).__module__.rpartition(".")[2]: name for name in reversed(_models())}


def test_keras_bit_for_bit_for_every_family(folder: Path) -> None:
    """``load_img`` and the family's own ``preprocess_input``, as Keras documents their use."""
    from workers.engine.zoos.keras import KerasZoo
    from workers.engine.zoos.keras_models import import_keras

    keras = import_keras()
    assert len(keras_families()) >= 15
    for family, name in keras_families().items():
        contract = KerasZoo().describe(name, "none").contract
        assert contract is not None
        form = "channels_first" if contract.layout == "nchw" else "channels_last"
        preprocess = getattr(keras.applications, family).preprocess_input

        def theirs(path: Path, contract: Contract = contract, form: str = form, preprocess: Any = preprocess) -> Any:
            loaded = keras.utils.load_img(path, target_size=(contract.height, contract.width))
            return preprocess(keras.utils.img_to_array(loaded, data_format=form), data_format=form)

        check(folder, contract, theirs)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_keras_other_kernels_of_load_img(folder: Path, interpolation: str) -> None:
    from workers.engine.zoos.keras import KerasZoo
    from workers.engine.zoos.keras_models import import_keras

    keras = import_keras()
    contract = KerasZoo().describe("ResNet50V2", "none").contract
    assert contract is not None
    contract = dataclasses.replace(contract, antialias=True, interpolation=interpolation)

    def theirs(path: Path) -> Any:
        loaded = keras.utils.load_img(path, target_size=(224, 224), interpolation=interpolation)
        array = keras.utils.img_to_array(loaded, data_format="channels_first")
        return keras.applications.resnet_v2.preprocess_input(array, data_format="channels_first")

    check(folder, contract, theirs)


RESNET_RESIZE = """
<ir_version: 8, opset_import: ["" : 18]>
resize (float[h, w, 3] pixels) => (float[a, b, 3] resized) {
    size = Constant <value = int64[2] {256, 256}> ()
    resized = Resize <mode = "linear", antialias = 1, axes = [0, 1], keep_aspect_ratio_policy = "not_smaller">
        (pixels, , , size)
}
"""
RESNET_CROP = """
<ir_version: 8, opset_import: ["" : 18]>
crop (float[a, b, 3] resized) => (float[3, 224, 224] data) {
    crop = Constant <value = int64[2] {224, 224}> ()
    cropped = CenterCropPad <axes = [0, 1]> (resized, crop)
    mean = Constant <value = float[3] {123.675, 116.28, 103.53}> ()
    std = Constant <value = float[3] {58.395, 57.12, 57.375}> ()
    centred = Sub (cropped, mean)
    normal = Div (centred, std)
    data = Transpose <perm = [2, 0, 1]> (normal)
}
"""
"""The steps that the ResNet page of the ONNX Model Zoo gives as a graph, for one picture, in two parts."""


def test_onnx_hub_resnets_against_the_documented_graph(folder: Path) -> None:
    import onnxruntime
    from onnx import parser
    from torchvision.datasets.folder import pil_loader

    from workers.engine.zoos.onnx import OnnxZoo

    def run(graph: str, value: NDArray[np.float32]) -> NDArray[np.float32]:
        session = onnxruntime.InferenceSession(parser.parse_model(graph).SerializeToString())
        return np.asarray(session.run(None, {session.get_inputs()[0].name: value})[0])

    contract = OnnxZoo().describe("resnet50-v1-12", None).contract
    assert contract is not None
    apart = {}
    for name, made in ours(folder, contract).items():
        picture = pil_loader(str(folder / "class" / name))
        theirs = run(RESNET_RESIZE, np.asarray(picture, np.float32))
        height, width, _ = theirs.shape
        plain = dataclasses.replace(contract, height=height, width=width, crop=None, layout="nhwc")
        resized = apply(dataclasses.replace(plain, scale=1.0, mean=(), std=()), picture)  # also: the sizes are the same
        apart[name] = float(np.abs(resized - theirs).mean())
        # Crop and normalisation are the graph's; it subtracts in the range of 255, where others divide first.
        assert np.abs(run(RESNET_CROP, resized) - made).max() <= 2 * np.spacing(np.float32(4))
    # The kernel is not: onnxruntime samples at the scale before the size is rounded, and with weights of its own.
    # One-bit pictures, black or white from pixel to pixel, are the farthest; photographs are within 1.7 grey levels.
    assert max(apart.values()) <= 4.0, apart
    assert max(value for name, value in apart.items() if name.endswith(".jpg")) <= 1.7


@pytest.mark.parametrize("name", ["googlenet-12", "bvlcalexnet-12", "caffenet-12"])
def test_onnx_hub_caffe_models_bit_for_bit(folder: Path, name: str) -> None:
    """GoogLeNet's page has the lines; the other two link to a script with the same ones."""
    from torchvision.datasets.folder import pil_loader

    from workers.engine.zoos.onnx import OnnxZoo

    def theirs(path: Path) -> NDArray[np.float32]:
        img = np.array(pil_loader(str(path)).resize((224, 224))).astype(np.float32)
        img[:, :, 0] -= 123.68
        img[:, :, 1] -= 116.779
        img[:, :, 2] -= 103.939
        img[:, :, [0, 1, 2]] = img[:, :, [2, 1, 0]]
        return img.transpose((2, 0, 1))

    check(folder, OnnxZoo().describe(name, None).contract, theirs)


def test_onnx_hub_shufflenets_bit_for_bit(folder: Path) -> None:
    """The page's torchvision transforms."""
    from torchvision import transforms
    from torchvision.datasets.folder import pil_loader

    from workers.engine.zoos.onnx import OnnxZoo

    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
    theirs = transforms.Compose([*steps, transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    contract = OnnxZoo().describe("shufflenet-v2-12", None).contract
    check(folder, contract, lambda path: theirs(pil_loader(str(path))).numpy())


def linear(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """OpenCV's ``resize`` as it is defined, before OpenCV rounds: two taps a side, pixel centres at .5."""
    import torch

    planes = torch.from_numpy(pixels.astype(np.float64).reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
    resized = torch.nn.functional.interpolate(planes[None], (height, width), mode="bilinear", align_corners=False)
    return resized[0].permute(1, 2, 0).numpy().astype(np.float32)


def squared(picture: Image.Image) -> NDArray[np.float32]:
    """Steps of the zoo's validation notebook: 256 x 256 whatever the form, the middle 224 x 224, normalise."""
    middle = linear(np.asarray(picture), 256, 256)[16:240, 16:240] / 255
    return ((middle - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])).transpose(2, 0, 1)


def edge(picture: Image.Image) -> NDArray[np.float32]:
    """Steps of EfficientNet-Lite's page: the shorter side to 224 / 0.875, the middle, (value - 127) / 128."""
    width, height = picture.size
    size = (int(256 * height / width), 256) if height > width else (256, int(256 * width / height))
    top, left = (int((side - 224) / 2) for side in size)
    return (linear(np.asarray(picture), *size)[top : top + 224, left : left + 224] - 127) / 128


def grey(picture: Image.Image) -> NDArray[np.float32]:
    """Steps of MNIST's page: grey, 28 x 28, 0 to 1."""
    return linear(np.asarray(picture.convert("L")), 28, 28).transpose(2, 0, 1) / 255


@pytest.mark.parametrize(
    ("name", "theirs", "step"),
    [
        ("squeezenet1.1-7", squared, 1 / 255 / 0.224),
        ("vgg16-bn-7", squared, 1 / 255 / 0.224),
        ("mobilenetv2-10", squared, 1 / 255 / 0.224),
        ("efficientnet-lite4-11-int8", edge, 1 / 128),
        ("mnist-12", grey, 1 / 255),
    ],
)
def test_onnx_hub_models_resized_by_opencv(folder: Path, name: str, theirs: Any, step: float) -> None:
    """Half a grey level apart at most (``step`` is one): OpenCV's fixed-point rounding is not imitated."""
    from torchvision.datasets.folder import pil_loader

    from workers.engine.zoos.onnx import OnnxZoo

    contract = OnnxZoo().describe(name, None).contract
    assert contract is not None
    for file, made in ours(folder, contract).items():
        expected = theirs(pil_loader(str(folder / "class" / file)))
        assert made.shape == expected.shape
        assert np.abs(made - expected).max() <= 0.501 * step, file


@pytest.mark.parametrize(
    "name", ["squeezenet1.0-12", "resnet50-caffe2-v1-9", "vgg19-caffe2-9", "densenet-12", "shufflenet-9", "zfnet512-12"]
)
def test_onnx_hub_models_whose_page_says_nothing_have_no_contract(name: str) -> None:
    from workers.engine.zoos.onnx import OnnxZoo

    assert OnnxZoo().describe(name, None).contract is None
