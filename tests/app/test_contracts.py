"""Contracts and planted faults as their users meet them: through the command line and over REST, on trained digits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from workers.engine.accuracy import digits

# In one process, so that the models are trained once and one warm engine serves all.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("contracts")]

EXAMPLES = Path(__file__).parents[2] / "examples/digits"
MLP, KERAS_MLP, LENET = "digits-torch:mlp", "digits-keras:mlp", "digits-torch:lenet5"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Both digits zoos with the two models that train within seconds."""
    root = tmp_path_factory.mktemp("digits")
    for zoo in ("digits-torch", "digits-keras"):
        shutil.copytree(EXAMPLES / zoo, root / zoo, ignore=shutil.ignore_patterns("weights", "__pycache__"))
    command = [sys.executable, str(EXAMPLES / "train.py"), "--root", str(root), "--model", "mlp", "--model", "lenet5"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return root


@pytest.fixture(scope="module")
def zooaudit(open_command_line, trained, tmp_path_factory):
    """Call the command line; all calls share one data folder, so that what was measured is measured once."""
    with open_command_line(tmp_path_factory.mktemp("contracts") / "data", trained) as command_line:
        yield command_line


@pytest.fixture
def compare(zooaudit, tmp_path):
    """Compare two models by accuracy; fields of B's contract may be overridden."""

    def run(a, b, *, dataset="digits", **fields):
        words = ["compare", a, b, "--dimension", "accuracy", "--dataset", dataset, "--json"]
        if fields:
            (tmp_path / "b.json").write_text(json.dumps(fields))
            words += ["--contract-b", tmp_path / "b.json"]
        return json.loads(zooaudit(*words).stdout)

    return run


def metrics(answer):
    """Return the findings that say something is wrong, by metric."""
    return {item["metric"]: item["details"] for item in answer["findings"] if item["verdict"] == "outside"}


def test_a_model_against_itself_is_equivalent_without_a_flip(compare):
    answer = compare(MLP, MLP)
    assert (answer["accuracy"]["verdict"], answer["verdict"]) == ("equivalent", "interchangeable")
    assert answer["accuracy"]["agreement"] == 1.0
    assert answer["contract"] == {"differences": []}
    assert answer["accuracy"]["suspicions"] == []
    assert metrics(answer) == {}


@pytest.mark.parametrize(
    ("model", "fields", "names"),
    [
        pytest.param(LENET, {"mean": [1.0], "std": [-1.0]}, {"mean", "std"}, id="inverted"),
        pytest.param(LENET, {"scale": 1.0}, {"scale"}, id="range"),
        pytest.param(MLP, {"mean": [8.0]}, {"mean"}, id="mean"),
    ],
)
def test_a_wrong_range_or_mean_collapses_and_is_named(compare, model, fields, names):
    answer = compare(model, model, **fields)
    assert (answer["accuracy"]["verdict"], answer["verdict"]) == ("different", "not_interchangeable")
    assert answer["accuracy"]["top1"]["difference"] > 0.3
    found = metrics(answer)
    assert {"top1", "contract"} <= set(found)
    assert {item["field"] for item in found["contract"]["differences"]} == names
    assert not {"shifted labels", "swapped classes", "permuted classes"} & set(found)
    assert answer["b"]["contract_overrides"] == fields
    assert answer["a"]["contract_overrides"] is None
    assert all(answer["b"]["contract"][name] == value for name, value in fields.items())
    # What is claimed is claimed of the zoo's own contract.
    assert not any(item["metric"].endswith("of B") for item in answer["findings"])


def test_a_wrong_resize_kernel_is_named_and_measured(compare):
    answer = compare(LENET, LENET, interpolation="nearest")
    assert answer["accuracy"]["agreement"] < 1
    (difference,) = metrics(answer)["contract"]["differences"]
    assert difference == {"field": "interpolation", "a": "bilinear", "b": "nearest"}
    assert answer["a"]["predictions"] != answer["b"]["predictions"]


def test_the_honest_pair_differs_in_its_contracts_and_raises_no_suspicion(compare):
    answer = compare(MLP, KERAS_MLP)
    assert {item["field"] for item in metrics(answer)["contract"]["differences"]} == {"scale", "layout"}
    assert answer["accuracy"]["suspicions"] == []


@pytest.fixture
def dataset(zooaudit, tmp_path):
    """Add the digits with other labels, or with fewer items."""

    def add(name, change):
        images, labels = digits.part("test")
        images, labels = change(images, labels)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels)
        zooaudit("datasets", "add", name, tmp_path / f"{name}.npz", "--format", "npz", "--label-space", "digits")
        return tmp_path / f"{name}.npz"

    return add


def test_shifted_labels_are_suspected_of_the_data_not_of_a_model(compare, dataset):
    dataset("shifted", lambda images, labels: (images, (labels + 1) % 10))
    answer = compare(MLP, KERAS_MLP, dataset="shifted")
    assert answer["accuracy"]["top1"]["a"] < 0.1
    found = metrics(answer)["shifted labels"]
    assert (found["side"], found["shift"]) == ("both", -1)


def test_swapped_labels_are_suspected_with_both_classes(compare, dataset, zooaudit):
    def swap(images, labels):
        order = np.arange(10)
        order[[3, 8]] = [8, 3]
        return images, order[labels]

    dataset("swapped", swap)
    answer = compare(MLP, KERAS_MLP, dataset="swapped")
    found = metrics(answer)["swapped classes"]
    assert found["classes"] == [{"label": 3, "answered": 8}, {"label": 8, "answered": 3}]
    assert found["side"] == "both"
    shown = zooaudit("compare", MLP, KERAS_MLP, "--dimension", "accuracy", "--dataset", "swapped").stdout
    assert "suspected: swapped classes of both sides" in shown


def test_a_data_set_that_was_truncated_between_two_models_decides_nothing_and_is_named(compare, dataset, zooaudit):
    path = dataset("cut", lambda images, labels: (images, labels))
    compare(MLP, MLP, dataset="cut")
    images, labels = digits.part("test")
    np.savez(path, images=images[:700], labels=labels[:700])
    words = ("compare", MLP, KERAS_MLP, "--dataset", "cut", "--dimension", "accuracy", "--dimension", "architecture")
    answer = json.loads(zooaudit(*words, "--json").stdout)
    assert (answer["accuracy"], answer["architecture"]["verdict"]) == (None, "same_function")
    assert "there were 896 with the digest" in answer["errors"]["accuracy"]["message"]
    (found,) = [item["details"] for item in answer["findings"] if item["metric"] == "data set"]
    assert (found["expected"]["items"], found["seen"]["items"]) == (896, 700)
    assert found["expected"]["digest"] != found["seen"]["digest"]
    alone = compare(MLP, MLP, dataset="cut", interpolation="nearest")
    assert (alone["verdict"], alone["reason"].split(",")[0]) == ("inconclusive", "accuracy could not be measured")


def test_a_contract_is_printed_as_steps(zooaudit):
    shown = json.loads(zooaudit("contract", "torchvision:inception_v3", "--json").stdout)
    assert shown["ref"] == "torchvision:inception_v3@IMAGENET1K_V1"
    assert shown["contract"]["resize"] == 342
    assert [step["step"] for step in shown["steps"]] == ["decode", "resize", "crop", "scale", "normalise", "layout"]
    assert "Inception_V3_Weights.IMAGENET1K_V1.transforms()" in shown["source"]
    assert "bilinear" in zooaudit("contract", LENET).stdout
    refused = zooaudit("contract", "onnx:light_resnet50", status=2).stderr
    assert "onnx:light_resnet50@placeholder has no documented input contract" in refused
    assert "file:/x.onnx has no documented" in zooaudit("contract", "file:/x.onnx", status=2).stderr


def test_what_cannot_be_overridden_is_said_before_anything_is_measured(zooaudit, tmp_path):
    (tmp_path / "c.toml").write_text("resise = 8\n")
    words = ("compare", MLP, MLP, "--dimension", "accuracy", "--dataset", "digits", "--contract-a", tmp_path / "c.toml")
    assert "no field 'resise'; did you mean resize?" in zooaudit(*words, status=2).stderr
    (tmp_path / "c.toml").write_text("colour = 'rgb'\nmean = [0.5]\n")
    assert "mean of a contract has 1 values, but rgb pictures have 3" in zooaudit(*words, status=2).stderr
    (tmp_path / "c.toml").write_text("resize = [")
    assert "cannot be read as an input contract" in zooaudit(*words, status=2).stderr
    (tmp_path / "c.toml").write_text("height = 9\nwidth = 9\nresize = [9, 9]\n")
    assert "its input contract makes [1, 1, 9, 9]" in zooaudit(*words, status=2).stderr
    only = ("compare", MLP, MLP, "--dimension", "architecture", "--contract-a", tmp_path / "c.toml")
    assert "matters to accuracy only" in zooaudit(*only, status=2).stderr


def test_overrides_over_rest_are_measured_apart_and_are_no_answers_of_the_model(zooaudit, compare):
    compare(MLP, MLP)
    with TestClient(create_app(zooaudit.settings)) as client:
        before = client.get("/v1/predictions", params={"model": MLP}).json()["items"]
        request = {"a": MLP, "b": MLP, "dimensions": ["accuracy"], "dataset": "digits"}
        request["contracts"] = {"b": {"scale": 0.01}}
        reply = client.post("/v1/comparisons", json=request)
        assert reply.status_code == 202, reply.text
        deadline = time.monotonic() + 60
        while (answer := client.get(reply.headers["Location"]).json())["state"] not in {"succeeded", "failed"}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert answer["state"] == "succeeded", answer["error"]
        assert answer["contract"]["differences"][0]["field"] == "scale"
        assert answer["accuracy"]["agreement"] < 1
        assert client.get("/v1/predictions", params={"model": MLP}).json()["items"] == before
        refused = client.post("/v1/comparisons", json=request | {"contracts": {"c": {}}})
        assert refused.status_code == 422
        refused = client.post("/v1/comparisons", json=request | {"contracts": {"a": {"scale": 0}}})
        assert "scale of a contract is 0; it must be a number other than 0" in refused.json()["detail"]
