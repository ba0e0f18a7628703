"""Real pairs of the zoos: the same network behind other layouts, interfaces and heads is proven to be one function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from workers.engine.graph.canonical import canonicalise
from workers.engine.graph.compare import compare
from workers.engine.graph.export import export_module

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def export(reference: str) -> Path:
        zoo, name = reference.split(":")
        path, shape, module = tmp_path / zoo, (1, 3, 224, 224), None
        if zoo == "keras":
            monkeypatch.setenv("KERAS_BACKEND", "torch")
            import keras

            before = keras.config.image_data_format()
            keras.config.set_image_data_format("channels_last")
            try:
                module = getattr(keras.applications, name)(weights=None)
            finally:
                keras.config.set_image_data_format(before)
            shape = (1, 224, 224, 3)
        elif zoo == "timm":
            import timm

            module = timm.create_model(name)
        else:
            import torchvision

            module = torchvision.models.get_model(name, weights=None)
        export_module(module, shape, path)
        return path

    return export


@pytest.fixture
def proven(exported: Any, light: Path, tmp_path: Path) -> Any:
    def compared(*references: str) -> dict[str, Any]:
        paths = [
            light / f"{reference.removeprefix('onnx:')}.onnx" if reference.startswith("onnx:") else exported(reference)
            for reference in references
        ]
        return compare(canonicalise(paths[0]), canonicalise(paths[1]), (paths[0], paths[1], tmp_path))

    return compared


@pytest.mark.slow
def test_resnet50_of_the_onnx_zoo_is_torchvisions_before_its_softmax(proven: Any) -> None:
    found = proven("torchvision:resnet50", "onnx:light_resnet50")
    proof = found["proof"]
    assert (found["verdict"], proof["compared"]["outputs"]) == ("same_function", "before the output form")
    # Sums may be associated otherwise, nothing more: far below what float32 could tell.
    assert proof["error_float64"] < 1e-9
    assert proof["error_float32"]["b"] <= proof["tolerance"] < 1e-5


@pytest.mark.slow
def test_densenet121_of_keras_is_torchvisions(proven: Any) -> None:
    # Channels last, a Softmax, and 121 batch-norms with an epsilon of 1.001e-5 instead of 1e-5.
    found = proven("torchvision:densenet121", "keras:DenseNet121")
    assert found["verdict"] == "same_function"
    assert {item["severity"] for item in found["differences"]} == {"interface", "numeric"}
    assert 1e-9 < found["proof"]["effect"]["relative"] < found["proof"]["tolerance"]


@pytest.mark.slow
def test_mobilenet_v3_with_another_epsilon_is_another_function(proven: Any) -> None:
    found = proven("torchvision:mobilenet_v3_small", "timm:mobilenetv3_small_100")
    proof = found["proof"]
    assert (found["verdict"], proof["proven"]) == ("different", False)
    assert 1e-3 < proof["effect"]["relative"] < 0.5
    assert proof["first_divergence"]["a"]["node"] == "features.0.0"
