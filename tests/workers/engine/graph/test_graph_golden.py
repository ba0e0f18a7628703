"""Real pairs of FACTS, each difference with its explanation."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from workers.engine.graph.canonical import CanonicalGraph, canonicalise
from workers.engine.graph.compare import compare
from workers.engine.graph.export import export_module
from workers.engine.protocol import SubjectError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Graph = CanonicalGraph

pytestmark = pytest.mark.xdist_group("golden")  # each network is exported once


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Graph]:
    """The canonical graph of ``zoo:name``, exported once."""
    folder = tmp_path_factory.mktemp("golden")
    known: dict[str, Graph] = {}

    def build(reference: str, size: int = 224) -> Graph:
        if reference not in known:
            path = folder / f"{reference.replace(':', '-')}.onnx"
            zoo, name = reference.split(":")
            shape: tuple[int, ...] = (1, 3, size, size)
            if zoo == "keras":
                module, shape = _keras(name, shape)
            else:
                module = _torchvision(name) if zoo == "torchvision" else _timm(name)
            export_module(module, shape, path)
            known[reference] = canonicalise(path)
            path.unlink()
        return known[reference]

    return build


def _torchvision(name: str) -> Any:
    import torchvision

    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, **options)


def _timm(name: str) -> Any:
    import timm

    return timm.create_model(name)


def _keras(name: str, shape: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    # DenseNet supports channels last alone; the others are built channels first.
    last = name.startswith("DenseNet")
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_last" if last else "channels_first")
    try:
        module = getattr(keras.applications, name)(weights=None)
    finally:
        keras.config.set_image_data_format(before)
    return module, (shape[0], *shape[2:], shape[1]) if last else shape


def rows(found: dict[str, Any], severity: str = "structural") -> list[tuple[Any, ...]]:
    """Differences of one severity as (kind, attribute, a's value, b's value), repeats written out.

    Operators stand for the values of inserted and removed nodes.
    """
    values = []
    for item in found["differences"]:
        if item["severity"] == severity:
            sides = [
                item[side] and (item[side]["value"] if item["kind"] == "attribute" else item[side]["op"])
                for side in "ab"
            ]
            values += [(item["kind"], item["attribute"], *sides)] * item["repeats"]
    return values


def places(difference: dict[str, Any], side: str = "a") -> list[str]:
    """All nodes of one side where the same difference stands."""
    return [difference[side]["node"], *(other[side] for other in difference["also"])]


SOFTMAX = ("inserted", None, None, "Softmax")


def test_alexnet_torchvision_against_bvlc(built: Any, light: Any) -> None:
    found = compare(built("torchvision:alexnet"), canonicalise(light / "light_bvlc_alexnet.onnx"))
    assert found["verdict"] == "different"
    assert rows(found) == [
        # "One weird trick" against the first paper: 64 filters on a padded picture, 96 on an unpadded one.
        ("attribute", "output_channels", 64, 96),
        ("attribute", "pads", [2, 2, 2, 2], [0, 0, 0, 0]),
        ("inserted", None, None, "LRN"),
        ("inserted", None, None, "LRN"),
        # Two groups: the two graphics cards of 2012.
        ("attribute", "group", 1, 2),
        ("attribute", "group", 1, 2),
        ("attribute", "group", 1, 2),
        ("attribute", "output_channels", 192, 256),
        ("attribute", "output_channels", 256, 384),
        # 12x12 feature maps (unpadded first layer) need a padded window for the last 6x6.
        ("attribute", "pads", [0, 0, 0, 0], [0, 0, 1, 1]),
    ]
    assert rows(found, "interface") == [SOFTMAX]
    (grouped,) = [item for item in found["differences"] if item["attribute"] == "group"]
    assert places(grouped) == ["features.3", "features.8", "features.10"]
    assert (found["a"]["parameters"], found["b"]["parameters"]) == (61_100_840, 60_965_224)


def test_resnet50_torchvision_against_timm_is_identical(built: Any, light: Any) -> None:
    a = built("torchvision:resnet50")
    found = compare(a, built("timm:resnet50"))
    assert (found["verdict"], found["differences"], found["a"]) == ("identical", [], found["b"])
    # The Caffe2 network of the ONNX zoo is v1.5 as well; it only ends in probabilities.
    found = compare(a, canonicalise(light / "light_resnet50.onnx"))
    assert (rows(found), rows(found, "interface")) == ([], [SOFTMAX])
    assert len(found["differences"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("a", "b", "size"),
    [
        ("torchvision:densenet121", "timm:densenet121", 224),
        ("torchvision:mobilenet_v2", "timm:mobilenetv2_100", 224),
        ("torchvision:efficientnet_b0", "timm:efficientnet_b0", 224),
        ("torchvision:inception_v3", "timm:inception_v3", 299),
        # timm's VGG head is convolutional; it equals the dense one at 224x224.
        ("torchvision:vgg16", "timm:vgg16", 224),
        pytest.param("torchvision:vgg19", "timm:vgg19", 224, marks=pytest.mark.exhaustive),
    ],
)
def test_torchvision_against_timm_is_identical(built: Any, a: str, b: str, size: int) -> None:
    found = compare(built(a, size), built(b, size))
    assert (found["verdict"], found["differences"]) == ("identical", [])


@pytest.mark.slow
def test_mobilenet_v3_differs_in_its_epsilon_alone(built: Any) -> None:
    found = compare(built("torchvision:mobilenet_v3_small"), built("timm:mobilenetv3_small_100"))
    (difference,) = found["differences"]
    assert (difference["attribute"], difference["severity"], difference["repeats"]) == ("epsilon", "numeric", 34)
    assert (difference["a"]["value"], difference["b"]["value"]) == (0.001, 1e-05)


@pytest.mark.slow
def test_resnet50_torchvision_against_keras(built: Any) -> None:
    found = compare(built("torchvision:resnet50"), built("keras:ResNet50"))
    # v1 against v1.5: in the first block of stages 2, 3, 4 Keras strides in the 1x1 layer, torchvision in the 3x3.
    moved = [("attribute", "strides", [2, 2], [1, 1])] * 3
    assert rows(found) == [("attribute", "strides", [1, 1], [2, 2])] * 3 + moved
    structural = [item for item in found["differences"] if item["severity"] == "structural"]
    for layer, item in enumerate(structural, start=1):
        assert places(item) == [f"layer{stage}.0.conv{layer}" for stage in (2, 3, 4)]
        assert places(item, "b") == [f"conv{stage + 1}_block1_{layer}_conv" for stage in (2, 3, 4)]
    assert rows(found, "interface") == [SOFTMAX]
    (epsilon,) = [item for item in found["differences"] if item["severity"] == "numeric"]
    assert (epsilon["a"]["value"], epsilon["b"]["value"], epsilon["repeats"]) == (1e-05, 1.001e-05, 53)
    # 25,557,032 + 26,560 convolution biases that batch-norm makes redundant.
    assert (found["b"]["parameters"], found["b"]["buffers"]) == (25_583_592, 53_120)


@pytest.mark.slow
def test_densenet121_in_four_zoos_is_one_network(built: Any, light: Any) -> None:
    a = built("torchvision:densenet121")
    found = compare(a, built("keras:DenseNet121"))
    assert rows(found) == []
    assert rows(found, "interface") == [("attribute", "layout", "nchw", "nhwc"), SOFTMAX]
    assert sum(item["repeats"] for item in found["differences"] if item["attribute"] == "epsilon") == 121
    found = compare(a, canonicalise(light / "light_densenet121.onnx"))
    # A 1x1 convolution as the head: the same product, but its output keeps two axes of size 1.
    assert [(item["severity"], item["b"]["op"]) for item in found["differences"]] == [("interface", "Reshape")]


@pytest.mark.slow
def test_mobilenet_v2_torchvision_against_keras(built: Any) -> None:
    found = compare(built("torchvision:mobilenet_v2"), built("keras:MobileNetV2"))
    # Keras pads right and bottom before a stride of 2 (TensorFlow's SAME), torchvision on all sides.
    assert rows(found) == [("attribute", "pads", [1, 1, 1, 1], [0, 0, 1, 1])] * 5
    assert rows(found, "numeric") == [("attribute", "epsilon", 1e-05, 0.001)] * 52


@pytest.mark.slow
def test_inception_v3_torchvision_against_keras(built: Any) -> None:
    found = compare(built("torchvision:inception_v3", 299), built("keras:InceptionV3", 299))
    # torchvision averages the padding in, TensorFlow leaves it out, in all nine pooling branches.
    assert rows(found) == [("attribute", "count_include_pad", 1, 0)] * 9


def test_googlenet_torchvision_against_onnx(built: Any, light: Any) -> None:
    found = compare(built("torchvision:googlenet"), canonicalise(light / "light_inception_v1.onnx"))
    (larger,) = [
        item for item in found["differences"] if item["attribute"] == "kernel_shape" and item["a"]["op"] == "Conv"
    ]
    # The known slip of torchvision: 3x3 where the paper has 5x5, in all nine blocks.
    assert places(larger) == [
        f"inception{block}.branch3.1.conv" for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    ]
    assert (larger["a"]["value"], larger["b"]["value"]) == ([3, 3], [5, 5])
    others = [row for row in rows(found) if row[1] != "kernel_shape" or row[2] != [3, 3]]
    assert others == [
        # Pools round up in torchvision (one padded row and column at this size), down in the Caffe2 file.
        ("attribute", "pads", [0, 0, 1, 1], [0, 0, 0, 0]),
        ("attribute", "pads", [0, 0, 1, 1], [0, 0, 0, 0]),
        ("attribute", "pads", [0, 0, 1, 1], [0, 0, 0, 0]),
        ("inserted", None, None, "LRN"),
        ("inserted", None, None, "LRN"),
        ("attribute", "kernel_shape", [2, 2], [3, 3]),
    ]
    # Batch-norm against none: folded away in inference, so both compute a convolution with a bias.
    (batch_norm,) = [item for item in found["differences"] if item["severity"] == "cosmetic"]
    assert (batch_norm["attribute"], batch_norm["repeats"]) == ("batch_norm", 57)


def test_normalisation_inside_googlenet_is_interface(built: Any, tmp_path: Path) -> None:
    import torchvision

    # What torchvision builds for its pretrained weights: the picture is renormalised channel by channel.
    module = torchvision.models.googlenet(weights=None, init_weights=False, transform_input=True)
    export_module(module, (1, 3, 224, 224), tmp_path / "googlenet.onnx")
    found = compare(built("torchvision:googlenet"), canonicalise(tmp_path / "googlenet.onnx"))
    assert {(item["kind"], item["severity"]) for item in found["differences"]} == {("inserted", "interface")}
    assert {item["b"]["value"].get("constant") for item in found["differences"]} >= {0.458, 0.448, 0.45}


def test_squeezenet_of_the_onnx_zoo_is_version_1_1(built: Any, light: Any) -> None:
    other = canonicalise(light / "light_squeezenet.onnx")
    found = compare(built("torchvision:squeezenet1_1"), other)
    assert (rows(found), rows(found, "interface")) == ([], [SOFTMAX, ("inserted", None, None, "Reshape")])
    found = compare(built("torchvision:squeezenet1_0"), other)
    assert rows(found)[:2] == [
        ("attribute", "kernel_shape", [7, 7], [3, 3]),
        ("attribute", "output_channels", 96, 64),
    ]
    # The pools sit elsewhere: two removed, two inserted.
    assert sorted(row[0] for row in rows(found)[2:]) == ["inserted", "inserted", "removed", "removed"]


def test_failing_export_gives_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    class Branching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(SubjectError, match="Branching cannot be exported to ONNX with input shape") as caught:
        export_module(Branching(), (1, 3, 8, 8), tmp_path / "never.onnx")
    assert caught.value.code == "export-failed"
    assert not (tmp_path / "never.onnx").exists()
    assert capsys.readouterr().out == ""


def test_export_keeps_batch_norm_and_computes_the_same(tmp_path: Path) -> None:
    import numpy as np
    import onnx
    import onnxruntime
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4, eps=1e-3), torch.nn.SiLU(), torch.nn.Flatten()
    ).eval()
    module[1].running_mean.normal_()
    path = tmp_path / "small.onnx"
    export_module(module, (1, 3, 8, 8), path)
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert operators == ["Conv", "BatchNormalization", "Sigmoid", "Mul", "Flatten"]
    drawn = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path))
    (actual,) = session.run(None, {session.get_inputs()[0].name: drawn})
    expected = module(torch.from_numpy(drawn)).detach().numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
