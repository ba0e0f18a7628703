"""An audit on pictures in ImageNet's original layout, by the command line: the mechanics, on digits for pictures."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from workers.engine.accuracy import digits, labels

SYNSETS = labels.names("imagenet-1k")
CLASSES = np.arange(10) * 90 + 20
"""ImageNet's class of each digit."""

pytestmark = pytest.mark.slow


def linear(path, penalty):
    """Fit a linear model of 1000 outputs to the training half of the digits and write it as ONNX."""
    pictures, truth = digits.part("train")
    x = pictures.reshape(len(pictures), -1) / 255.0
    targets = np.zeros((len(x), len(SYNSETS)))
    targets[np.arange(len(x)), CLASSES[truth]] = 1
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ targets).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    side = pictures.shape[1]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("x", [1, 1, side, side]), ("y", [1, 1000]))
    ]
    graph = helper.make_graph(nodes, "linear", *ends, [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return side


def zoo(folder, penalty):
    """Write a zoo of one model."""
    folder.mkdir(parents=True)
    side = linear(folder / "linear.onnx", penalty)
    (folder / "zoo.toml").write_text(
        '[models.linear]\nframework = "onnx"\nweights = { v1 = "linear.onnx" }\n'
        f'label_space = "imagenet-1k"\nclasses = 1000\n[models.linear.input]\nheight = {side}\nwidth = {side}\n'
        f'resize = [{side}, {side}]\ncolour = "grey"\n'
    )


def imagenet(folder):
    """Write the held-out digits as ImageNet's validation pictures were published; the ids are in no sorted order."""
    (folder / "val").mkdir(parents=True)
    order = np.random.default_rng(0).permutation(1000)
    (folder / "synsets.txt").write_text("".join(f"{SYNSETS[index]}\n" for index in order))
    ids = np.argsort(order) + 1
    pictures, truth = digits.part("test")
    (folder / "ground_truth.txt").write_text("".join(f"{ids[CLASSES[label]]}\n" for label in truth))
    for number, picture in enumerate(pictures, 1):
        shown = Image.fromarray(picture.squeeze()).convert("RGB").resize((96, 64), Image.Resampling.BICUBIC)
        shown.save(folder / "val" / f"ILSVRC2012_val_{number:08}.JPEG", quality=95)


@pytest.fixture
def zooaudit(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZOOAUDIT_")}
    environment = kept | {"ZOOAUDIT_DATA_DIR": str(tmp_path / "data"), "ZOOAUDIT_LOCAL_ZOOS": str(tmp_path / "zoos")}

    def call(*words):
        command = [sys.executable, "-m", "app.cli", *words]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def test_two_zoos_are_audited_on_pictures_in_imagenets_layout(zooaudit, tmp_path):
    zoo(tmp_path / "zoos" / "ours", 1.0)
    zoo(tmp_path / "zoos" / "theirs", 3000.0)
    imagenet(tmp_path / "imagenet")
    words = ["datasets", "add", "val", "imagenet/val", "--format", "imagenet-flat"]
    zooaudit(*words, "--ground-truth", "imagenet/ground_truth.txt", "--synsets", "imagenet/synsets.txt")
    words = ["audit", "--zoo", "ours", "--zoo", "theirs", "--dataset", "val", "--dimension", "accuracy"]
    audit = json.loads(zooaudit(*words, "--json"))
    (top1,) = [item for item in audit["findings"] if item["metric"] == "top1"]
    assert top1["a"] > 0.85, "ids were mapped by the synsets; in another order nothing would be right"
    assert top1["details"]["items"] == 896
    assert (top1["a"] > top1["b"], top1["verdict"]) == (True, "outside")
    shown = zooaudit(*words)
    assert "Accuracy on val, 896 items" in shown
