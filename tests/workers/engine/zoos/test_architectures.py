"""Architecture keys against the full model lists of every zoo."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from workers.engine.zoos.architectures import architecture_key
from workers.engine.zoos.registry import open_zoo


def names(zoo: str) -> list[str]:
    return sorted({listing.name for listing in open_zoo(zoo).listings()})


@pytest.mark.parametrize(
    ("key", "members"),
    {
        "resnet50": [
            "torchvision:resnet50",
            "timm:resnet50",
            "keras:ResNet50",
            "onnx:light_resnet50",
            "onnx:resnet50-v1-12",
            "onnx:resnet50-caffe2-v1-9",
            "onnx:resnet50-v1-12-int8",
        ],
        "resnet50_v2": ["timm:resnetv2_50", "keras:ResNet50V2", "onnx:resnet50-v2-7"],
        "alexnet": ["torchvision:alexnet", "onnx:light_bvlc_alexnet", "onnx:bvlcalexnet-12"],
        "googlenet": [
            "torchvision:googlenet",
            "onnx:light_inception_v1",
            "onnx:googlenet-12",
            "onnx:inception-v1-12-qdq",
        ],
        "squeezenet1_1": ["torchvision:squeezenet1_1", "onnx:light_squeezenet", "onnx:squeezenet1.1-7"],
        "squeezenet1_0": ["torchvision:squeezenet1_0", "onnx:squeezenet1.0-12"],
        "vgg16": ["torchvision:vgg16", "timm:vgg16", "keras:VGG16", "onnx:vgg16-12"],
        "vgg16_bn": ["torchvision:vgg16_bn", "timm:vgg16_bn", "onnx:vgg16-bn-7"],
        "vgg19": ["torchvision:vgg19", "timm:vgg19", "keras:VGG19", "onnx:light_vgg19", "onnx:vgg19-caffe2-9"],
        "densenet121": [
            "torchvision:densenet121",
            "timm:densenet121",
            "keras:DenseNet121",
            "onnx:light_densenet121",
            "onnx:densenet-12",
        ],
        "mobilenet_v2": [
            "torchvision:mobilenet_v2",
            "timm:mobilenetv2_100",
            "keras:MobileNetV2",
            "onnx:mobilenetv2-12",
        ],
        "mobilenet_v3_large": [
            "torchvision:mobilenet_v3_large",
            "timm:mobilenetv3_large_100",
            "keras:MobileNetV3Large",
        ],
        "inception_v3": ["torchvision:inception_v3", "timm:inception_v3", "keras:InceptionV3"],
        "efficientnet_b0": ["torchvision:efficientnet_b0", "timm:efficientnet_b0", "keras:EfficientNetB0"],
        "efficientnet_v2_s": ["torchvision:efficientnet_v2_s", "timm:efficientnetv2_s", "keras:EfficientNetV2S"],
        "convnext_tiny": ["torchvision:convnext_tiny", "timm:convnext_tiny", "keras:ConvNeXtTiny"],
        "regnet_y_3_2gf": ["torchvision:regnet_y_3_2gf", "timm:regnety_032"],
        "vit_b_16": ["torchvision:vit_b_16", "timm:vit_base_patch16_224"],
        "shufflenet_v2_x1_0": ["torchvision:shufflenet_v2_x1_0", "onnx:shufflenet-v2-12"],
    }.items(),
)
def test_one_architecture_has_one_key_in_every_zoo(key: str, members: list[str]) -> None:
    for reference in members:
        zoo, _, name = reference.partition(":")
        assert architecture_key(zoo, name) == key, reference
        assert open_zoo(zoo).describe(name, None).architecture == key, reference


@pytest.mark.parametrize("zoo", ["torchvision", "timm", "keras", "onnx"])
def test_every_name_of_every_zoo_has_a_key(zoo: str) -> None:
    assert [name for name in names(zoo) if not architecture_key(zoo, name)] == []


@pytest.mark.parametrize("zoo", ["torchvision", "timm", "keras"])
def test_two_names_of_one_zoo_never_share_a_key(zoo: str) -> None:
    keys = Counter(architecture_key(zoo, name) for name in names(zoo))
    assert [key for key, count in keys.items() if count > 1] == []


def test_torchvision_names_are_the_keys() -> None:
    assert [name for name in names("torchvision") if architecture_key("torchvision", name) != name] == []


def test_renamed_timm_models_are_all_known_to_another_zoo_or_spelt_like_their_family() -> None:
    others = {architecture_key(zoo, name) for zoo in ("torchvision", "keras", "onnx") for name in names(zoo)}
    renamed = {name: architecture_key("timm", name) for name in names("timm")}
    strangers = {name: key for name, key in renamed.items() if key != name and key not in others}
    assert strangers == {}


def test_the_table_names_only_models_that_exist() -> None:
    import tomllib

    from workers.engine.zoos import architectures

    table = tomllib.loads((Path(architectures.__file__).parent / "architectures.toml").read_text())
    for zoo in ("timm", "keras", "onnx"):
        assert sorted(set(table[zoo].get("names", {})) - set(names(zoo))) == []


@pytest.mark.parametrize(
    "name",
    [
        "resnet50d",
        "resnet50_gn",
        "resnet50_clip",
        "wide_resnet50_2",
        "resnetv2_50d",
        "seresnet50",
        "efficientnet_b0_g8_gn",
        "efficientnet_b0_gn",
        "tf_efficientnet_b0",
        "mobilenetv2_110d",
        "resnetv2_50x1_bit",
        "regnetx_004_tv",
        "densenetblur121d",
        "legacy_seresnet50",
    ],
)
def test_lookalikes_keep_keys_of_their_own(name: str) -> None:
    assert architecture_key("timm", name) == name


@pytest.mark.parametrize(
    ("zoo", "name"), [("keras", "ResNet50V3x"), ("onnx", "resnet50-v1-12-fp8"), ("nowhere", "resnet50")]
)
def test_names_without_a_rule_have_no_key(zoo: str, name: str) -> None:
    assert architecture_key(zoo, name) is None


def test_the_unversioned_squeezenet_is_1_1_by_its_graph() -> None:
    import onnx

    from workers.engine.zoos.onnx import OnnxZoo

    zoo = OnnxZoo()
    path = zoo.fetch(zoo.describe("light_squeezenet", None))[0]
    nodes = [node for node in onnx.load(str(path)).graph.node if node.op_type in {"Conv", "MaxPool"}]
    kernels = [list(next(a.ints for a in node.attribute if a.name == "kernel_shape")) for node in nodes]
    # 1.0 begins with 7x7 and pools before its first, fourth and eighth fire module; 1.1 with 3x3, then 2 and 4 modules.
    assert kernels[0] == [3, 3]
    pools = [index for index, node in enumerate(nodes) if node.op_type == "MaxPool"]
    assert pools == [1, 8, 15]
