"""The command line as a user calls it: real processes, real models, an empty folder."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

numpy = pytest.importorskip("numpy")


@pytest.fixture
def environment(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZOOAUDIT_")}
    return kept | {"ZOOAUDIT_DATA_DIR": str(tmp_path / "data"), "ZOOAUDIT_CACHE_DIR": str(tmp_path / "cache")}


@pytest.fixture
def zooaudit(environment, tmp_path):
    def call(*words):
        command = [sys.executable, "-m", "app.cli", *words]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )

    return call


def network(path, stride):
    """Write a convolution, a pool and a head."""
    random = numpy.random.default_rng(0)
    weights = {
        "w": random.standard_normal((4, 3, 3, 3)).astype("float32"),
        "head": random.standard_normal((4, 5)).astype("float32"),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], strides=[stride, stride]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "head"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return f"file:{path}"


def test_help_imports_nothing_heavy():
    code = "import sys, app.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"sqlalchemy", "fastapi", "celery", "alembic", "torch", "numpy"} & set(loaded)


def test_the_twin_of_a_bare_file_is_found_in_an_indexed_zoo(zooaudit, tmp_path, environment):
    sought = network(tmp_path / "a.onnx", 2)
    environment["ZOOAUDIT_LOCAL_ZOOS"] = str(tmp_path)
    names = {"twin": 2, "sister": 1, "broken": None}
    for name, stride in names.items():
        if stride:
            network(tmp_path / f"{name}.onnx", stride)
        else:
            (tmp_path / f"{name}.onnx").write_bytes(b"no model at all")
    entry = '[models.{0}]\nframework = "onnx"\nweights = {{ v1 = "{0}.onnx" }}\ninput = {{ height = 16, width = 16 }}\n'
    (tmp_path / "zoo.toml").write_text('name = "mine"\n' + "".join(entry.format(name) for name in names))
    called = zooaudit("index", "--zoo", "mine", "--json")
    assert called.returncode == 0, called.stderr
    (index,) = json.loads(called.stdout)
    assert (index["indexed"], index["failed"]) == (2, 1)
    (failed,) = index["not_indexed"]
    assert failed["built"] == "mine:broken@v1"
    assert "no ONNX" in failed["error"]["message"]
    found = json.loads(zooaudit("similar", sought, "--json").stdout)
    assert [(item["name"], item["same_structure"]) for item in found["items"]] == [("twin", True), ("sister", False)]
    assert "mine:twin" in zooaudit("similar", sought).stdout


def test_compare_prints_one_json_document_and_a_table_of_the_same(zooaudit, tmp_path):
    a, b = network(tmp_path / "a.onnx", 1), network(tmp_path / "b.onnx", 2)
    called = zooaudit("compare", a, b, "--dimension", "architecture", "--json")
    assert called.returncode == 0, called.stderr
    answer = json.loads(called.stdout)
    assert answer["verdict"] == "not_interchangeable"
    assert answer["a"]["artifact"]["format"] == "onnx"
    (difference,) = answer["architecture"]["differences"]
    assert (difference["attribute"], difference["severity"]) == ("strides", "structural")
    assert (difference["a"]["value"], difference["b"]["value"]) == ([1, 1], [2, 2])
    shown = zooaudit("compare", a, b, "--dimension", "architecture")
    assert "strides" in shown.stdout
    assert "not interchangeable" in " ".join(shown.stdout.split())


def test_compare_draws_both_graphs_to_a_file(zooaudit, tmp_path):
    a, b = network(tmp_path / "a.onnx", 1), network(tmp_path / "b.onnx", 2)
    for name in ("graphs.svg", "graphs.HTML"):
        called = zooaudit("compare", a, b, "--dimension", "architecture", "--diagram", name, "--json")
        assert called.returncode == 0, called.stderr
        answer = json.loads(called.stdout)["architecture"]
        assert answer["diagram"]["left_out"] is None
        assert [row["kind"] for row in answer["aligned"]["rows"]].count("different") == 1
        assert "1: strides 1×1 → 2×2" in (tmp_path / name).read_text()
    assert (tmp_path / "graphs.svg").read_text().startswith("<svg ")
    page = (tmp_path / "graphs.HTML").read_text()
    assert page.startswith("<!doctype html>")
    assert (tmp_path / "graphs.svg").read_text() in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--diagram", "graphs.png"], "ends in neither .svg nor .html"),
        (["--diagram", "graphs"], "ends in neither .svg nor .html"),
        (["--diagram", "absent/graphs.svg"], "make it first"),
        (["--diagram", "file/graphs.svg"], "make it first"),
        (["--diagram", "folder.svg"], "cannot be written"),
        (["--diagram", "graphs.svg", "--dimension", "latency"], "add --dimension architecture"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_diagram_that_cannot_be_is_refused_before_any_work(zooaudit, tmp_path, words, said):
    (tmp_path / "file").touch()
    (tmp_path / "folder.svg").mkdir()
    same = network(tmp_path / "a.onnx", 1)
    called = zooaudit("compare", same, same, *words)
    assert called.returncode == 2
    assert said in " ".join(called.stderr.replace("│", " ").split())
    assert "Traceback" not in called.stderr
    assert not (tmp_path / "data").exists()


def test_a_model_is_interchangeable_with_itself(zooaudit, tmp_path):
    same = network(tmp_path / "a.onnx", 1)
    called = zooaudit("compare", same, same, "--budget", "10s", "--json")
    answer = json.loads(called.stdout)
    assert answer["architecture"]["verdict"] == "identical"
    (point,) = [point for point in answer["latency"]["operating_points"] if point["runtime"] == "onnxruntime"]
    assert point["control"]["ci95"][0] <= point["control"]["ratio"] <= point["control"]["ci95"][1]
    assert point["a"]["samples"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "resnet50", "timm:resnet50"], "zoo:name"),
        (["compare", "torchvison:resnet50@none", "timm:resnet50@none"], "Did you mean torchvision?"),
        (["compare", "timm:resnet50@a1_in1k", "keras:ResNet50", "--dataset", "digit"], "Did you mean digits?"),
        (["compare", "timm:resnet50@none", "keras:ResNet50@none", "--dataset", "digits"], "random weights"),
        (["compare", "timm:resnet50@none", "keras:ResNet50@none", "--policy", "defautl"], "Did you mean default?"),
        (["compare", "timm:resnet50@none", "keras:ResNet50@none", "--budget", "soon"], "write 60s"),
        (["compare", "timm:resnet50@none", "keras:ResNet50@none", "--dimension", "colour"], "architecture"),
        (["compare", "timm:resnet50@none", "keras:ResNet50@none", "--point", "torch"], "is no operating point"),
        (["compare", "timm:resnet50@none", "keras:ResNet50@none", "--point", "runtime=torch,batch=0"], "batch is 0"),
        (["audit", "--zoo", "timm", "--zoo", "keras", "--point", "runtime=torch,thread=2"], "Did you mean threads?"),
        (["audit", "--zoo", "timm"], "at least two"),
        (["audit", "--zoo", "timm", "--zoo", "keras", "--accuracy-device", "gpu"], "choose from cpu, cuda"),
        (["compare", "timm:a", "keras:b", "--accuracy-runtime", "tourch"], "choose from onnxruntime, torch"),
        (["datasets", "add", "d", "x.zip", "--format", "zip"], "folder, imagenet-flat, cifar-10"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_a_sentence_with_exit_code_2(zooaudit, words, said):
    called = zooaudit(*words)
    assert called.returncode == 2
    assert said in " ".join(called.stderr.split())
    assert "Traceback" not in called.stderr
    assert called.stdout == ""


def test_a_file_that_is_no_model_fails_alone(zooaudit, tmp_path):
    good = network(tmp_path / "good.onnx", 1)
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "good.onnx").read_bytes()[:100])
    for path in (tmp_path / "cut.onnx", tmp_path / "absent.onnx"):
        called = zooaudit("compare", good, f"file:{path}", "--dimension", "architecture")
        assert called.returncode == 2
        assert path.name in called.stderr
        assert "Traceback" not in called.stderr
    assert zooaudit("compare", good, good, "--dimension", "architecture").returncode == 0


def test_a_policy_file_sets_the_margins(zooaudit, tmp_path):
    a, b = network(tmp_path / "a.onnx", 1), network(tmp_path / "b.onnx", 2)
    policy = tmp_path / "accuracy-only.json"
    policy.write_text(json.dumps({"name": "accuracy-only", "critical": ["accuracy"]}))
    called = zooaudit("compare", a, b, "--dimension", "architecture", "--policy", str(policy), "--json")
    answer = json.loads(called.stdout)
    assert answer["verdict"] == "inconclusive"
    assert "accuracy was not measured" in answer["reason"]
    policy.write_text('{"name": "wide", "latency_margin": 7}')
    refused = zooaudit("compare", a, b, "--policy", str(policy))
    assert refused.returncode == 2
    assert "latency_margin is 7" in refused.stderr


def test_data_sets_are_added_and_listed(zooaudit, tmp_path):
    added = zooaudit("datasets", "add", "mine", "pictures", "--format", "folder", "--label-space", "mine", "--json")
    assert json.loads(added.stdout)[0]["path"] == str(tmp_path / "pictures")
    names = [row["name"] for row in json.loads(zooaudit("datasets", "list", "--json").stdout)]
    assert names == ["digits", "mine"]


def test_options_of_a_data_set(zooaudit, tmp_path):
    words = ["datasets", "add", "val", "pictures", "--format", "imagenet-flat", "--ground-truth", "t.txt", "--json"]
    added = json.loads(zooaudit(*words, "--synsets", "meta.mat").stdout)[0]
    assert added["options"] == {"ground_truth": str(tmp_path / "t.txt"), "synsets": str(tmp_path / "meta.mat")}
    refused = zooaudit("datasets", "add", "m", "pictures", "--format", "mnist", "--labels", "fine")
    assert refused.returncode == 2
    assert "mnist has no option labels" in refused.stderr


def test_an_audit_of_two_folders_ranks_what_differs(environment, zooaudit, tmp_path):
    manifest = '[models.net]\nframework = "onnx"\nweights = { v1 = "net.onnx" }\n'
    for name, stride in (("first", 1), ("second", 2)):
        folder = tmp_path / "zoos" / name
        folder.mkdir(parents=True)
        (folder / "zoo.toml").write_text(manifest)
        network(folder / "net.onnx", stride)
    environment["ZOOAUDIT_LOCAL_ZOOS"] = str(tmp_path / "zoos")
    words = ["audit", "--zoo", "first", "--zoo", "second", "--dimension", "architecture"]
    shown = zooaudit(*words, "--report", str(tmp_path / "report.html"))
    assert shown.returncode == 0, shown.stderr
    for text in (shown.stdout, (tmp_path / "report.html").read_text()):
        assert "first:net@v1" in text
        assert "Conv strides 1 → 2" in text
    answer = json.loads(zooaudit(*words, "--json").stdout)
    assert answer["summary"]["verdicts"] == {"not_interchangeable": 1}
    (structure,) = [item for item in answer["findings"] if item["metric"] == "structure"]
    assert (structure["effect"], structure["verdict"]) == (1, "outside")
    nowhere = zooaudit(*words, "--report", str(tmp_path / "absent" / "report.html"))
    assert nowhere.returncode == 2
    assert "make it first" in " ".join(nowhere.stderr.split())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_serve_answers_with_a_worker_beside_it_and_takes_it_along(environment, tmp_path, number):
    a, b = network(tmp_path / "a.onnx", 1), network(tmp_path / "b.onnx", 2)
    environment["ZOOAUDIT_STOP_S"] = "1"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port)]
    with (tmp_path / "serve.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            _until(lambda: _ready(client), server)
            made = client.post("/v1/comparisons", json={"a": a, "b": b, "dimensions": ["architecture"]})
            assert made.status_code == 202
            where = made.headers["Location"]
            _until(lambda: client.get(where).json()["state"] in {"succeeded", "failed"}, server)
            answer = client.get(where).json()
            assert (answer["state"], answer["verdict"]) == ("succeeded", "not_interchangeable")
            found = client.get("/v1/findings", params={"dimension": "architecture"}).json()["items"]
            assert {item["comparison_id"] for item in found} == {answer["id"]}
            # One network against itself, within a margin that no time is enough for: it runs until it is told to end.
            policy = {"name": "sharp", "latency_margin": 1e-6}
            long = {"a": a, "b": a, "dimensions": ["latency"], "latency_budget_s": 600, "policy": policy}
            assert client.post("/v1/comparisons", json=long).status_code == 202
            _until(lambda: _measured(tmp_path / "data")[0] == "running", server)
    finally:
        family = psutil.Process(server.pid).children(recursive=True)
        told = time.monotonic()
        server.send_signal(number)
        server.wait(timeout=30)
    assert family
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert time.monotonic() - told < 8
    assert _measured(tmp_path / "data") == ("queued", None, 0)
    assert list((tmp_path / "data" / "scratch").iterdir()) == []
    assert "Traceback" not in Path(tmp_path / "serve.log").read_text()


def _measured(data):
    """Return the state of the job that measures latency, who has its device, and the attempts that count against it."""
    with sqlite3.connect(data / "zooaudit.db", timeout=30) as database:
        return database.execute("SELECT state, exclusive_on, spent FROM jobs WHERE kind = 'latency'").fetchone()


def _ready(client):
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _until(true, process, limit_s=60):
    deadline = time.monotonic() + limit_s
    while not true():
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_a_device_that_this_machine_has_not_is_said_instead_of_waited_for(environment, zooaudit, tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    manifest = (
        '[models.net]\nframework = "onnx"\nweights = { v1 = "net.onnx" }\n[models.net.input]\nheight = 16\nwidth = 16\n'
    )
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "zoo.toml").write_text(manifest)
    network(tmp_path / "own" / "net.onnx", 1)
    pictures = numpy.zeros((4, 16, 16, 3), "uint8")
    numpy.savez(tmp_path / "four.npz", images=pictures, labels=numpy.arange(4))
    environment["ZOOAUDIT_LOCAL_ZOOS"] = str(tmp_path / "own")
    assert zooaudit("datasets", "add", "four", "four.npz", "--format", "npz").returncode == 0
    words = ["compare", "own:net", "own:net", "--dimension", "accuracy", "--dataset", "four"]
    called = zooaudit(*words, "--accuracy-device", "cuda")
    assert called.returncode == 2
    assert "choose the device cpu" in called.stderr
