"""Recorded predictions as their users have them: through the command line and over REST, with real workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from workers.local import LocalWorker

RECORDED = Path(__file__).parents[3] / "shared/data/imagenet-recorded"
COUNTS = ("both_right", "a_only", "b_only", "both_wrong_same", "both_wrong_different")

with_recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recorded ImageNet predictions at {RECORDED}")


@pytest.fixture
def small(tmp_path):
    """Write predictions of 200 items; ``right`` of them are right."""

    def write(name, right, *, labels=None, ids=None):
        labels = np.arange(200) % 10 if labels is None else labels
        first = np.where(np.arange(200) < right, labels, (labels + 1) % 10)
        second = (first + 5) % 10
        columns = {"labels": labels, "classes": np.stack([second, first], 1), "scores": [[0.2, 0.8]] * len(labels)}
        if ids is not None:
            columns["ids"] = ids
        np.savez(tmp_path / f"{name}.npz", **columns)
        return str(tmp_path / f"{name}.npz")

    return write


@pytest.fixture
def zooaudit(open_command_line, tmp_path):
    with open_command_line(tmp_path / "data") as command_line:
        yield command_line


def imported(zooaudit, name, path, *, dataset="letters", model=None):
    model = model or f"recorded:{name}"
    return zooaudit("predictions", "import", "--model", model, "--dataset", dataset, path, "--json")


def test_files_are_imported_and_compared_by_processes_of_their_own(small, tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZOOAUDIT_")}
    environment = kept | {"ZOOAUDIT_DATA_DIR": str(tmp_path / "data")}

    def call(*words):
        command = [sys.executable, "-m", "app.cli", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)

    for name, right in {"one": 150, "two": 180}.items():
        imported(call, name, small(name, right))
    answer = json.loads(call("compare", "recorded:one", "recorded:two", "--dataset", "letters", "--json").stdout)
    assert answer["accuracy"]["ledger"]["b_only"] == 30


@pytest.mark.slow
@with_recorded
def test_the_recorded_imagenet_pairs_come_out_as_they_are_known(zooaudit):
    pairs = json.loads((RECORDED / "expected.json").read_text())
    names = sorted({pair[side] for pair in pairs for side in ("a", "b")})
    for name in names:
        done = imported(zooaudit, name, str(RECORDED / f"{name}.npz"), dataset="imagenet-val")
        assert json.loads(done.stdout)["items"] == 50_000
    for pair in pairs:
        words = (f"recorded:{pair['a']}", f"recorded:{pair['b']}", "--dimension", "accuracy")
        answer = json.loads(zooaudit("compare", *words, "--dataset", "imagenet-val", "--json").stdout)
        check(answer, pair)
    with TestClient(create_app(zooaudit.settings)) as client:
        stored = client.get("/v1/comparisons").json()["items"]
        for pair in pairs:
            refs = (f"recorded:{pair['a']}", f"recorded:{pair['b']}")
            (found,) = [item["id"] for item in stored if (item["a"]["ref"], item["b"]["ref"]) == refs]
            check(client.get(f"/v1/comparisons/{found}").json(), pair)
        where = f"/v1/comparisons/{found}/items"
        sure = client.get(where, params={"cell": "a_only", "min_score": 0.9, "limit": 200}).json()
        assert sure["items"]
        for item in sure["items"]:
            assert item["a"]["class"] == item["label"] != item["b"]["class"]
            assert max(item["a"]["score"], item["b"]["score"]) >= 0.9


def check(answer, pair):
    block = answer["accuracy"]
    assert answer["state"] == "succeeded"
    assert block["ledger"] == {name: pair[name] for name in COUNTS}
    assert (block["items"], block["agreement"]) == (pair["n"], pair["agreement"])
    for metric in ("top1", "top5"):
        assert [block[metric][side] for side in ("a", "b")] == [pair[f"{metric}_a"], pair[f"{metric}_b"]]
    assert block["verdict"] == "different"
    assert answer["a"]["recorded"]
    assert answer["architecture"] is None


def test_what_cannot_be_asked_of_recorded_predictions_is_said(zooaudit, small):
    imported(zooaudit, "one", small("one", 150))
    compare = ("compare", "recorded:one", "recorded:on")
    assert "Did you mean recorded:one?" in zooaudit(*compare, "--dataset", "letters", status=2).stderr
    same = ("compare", "recorded:one", "recorded:one")
    assert "recorded:one has predictions on letters" in zooaudit(*same, status=2).stderr
    asked = zooaudit(*same, "--dataset", "letters", "--dimension", "latency", status=2)
    assert "known by its predictions alone" in asked.stderr
    live = zooaudit("compare", "recorded:one", "torchvision:resnet18@IMAGENET1K_V1", "--dataset", "letters", status=2)
    assert "letters is known by its labels alone" in live.stderr
    digits = zooaudit(*same, "--dataset", "digits", status=2)
    assert "It has predictions on letters." in digits.stderr


def test_a_listing_can_be_compared_by_its_imported_predictions_without_loading_it(zooaudit, small):
    imported(zooaudit, "mine", small("mine", 190))
    imported(zooaudit, "", small("theirs", 150), model="torchvision:resnet18@IMAGENET1K_V1")
    words = ("recorded:mine", "torchvision:resnet18@IMAGENET1K_V1", "--dimension", "accuracy", "--dataset", "letters")
    answer = json.loads(zooaudit("compare", *words, "--json").stdout)
    assert answer["accuracy"]["ledger"]["a_only"] == 40
    assert answer["b"]["recorded"]
    listed = json.loads(zooaudit("predictions", "list", "--dataset", "letters", "--json").stdout)
    assert {item["model"] for item in listed} == {"recorded:mine", "torchvision:resnet18@IMAGENET1K_V1"}


def test_other_labels_do_not_join_and_nothing_stays_of_them(zooaudit, small):
    imported(zooaudit, "one", small("one", 150))
    other = small("other", 150, labels=(np.arange(200) + 3) % 10)
    done = zooaudit("predictions", "import", "--model", "recorded:other", "--dataset", "letters", other, status=2)
    assert "row 0 is 3, but data set letters has 0 there" in done.stderr
    done = zooaudit("predictions", "import", "--model", "recorded:x", "--dataset", "new", "nothing.npz", status=2)
    assert "nothing.npz is not a file" in done.stderr
    assert len(json.loads(zooaudit("predictions", "list", "--json").stdout)) == 1
    names = [item["name"] for item in json.loads(zooaudit("datasets", "list", "--json").stdout)]
    assert sorted(names) == ["digits", "letters"]


def test_the_latest_import_of_a_model_counts(zooaudit, small):
    imported(zooaudit, "one", small("one", 150))
    imported(zooaudit, "two", small("two", 150))
    imported(zooaudit, "two", small("two", 180))
    words = ("compare", "recorded:one", "recorded:two", "--dataset", "letters", "--json")
    answer = json.loads(zooaudit(*words).stdout)
    assert answer["accuracy"]["ledger"]["b_only"] == 30


def test_items_in_another_order_are_matched_by_their_ids(zooaudit, small):
    ids = np.array([f"{number:03}.jpg" for number in range(200)])
    labels = np.arange(200) % 10
    imported(zooaudit, "one", small("one", 150, ids=ids))
    turned = small("turned", 200, labels=labels[::-1], ids=ids[::-1])
    imported(zooaudit, "turned", turned)
    words = ("compare", "recorded:one", "recorded:turned", "--dataset", "letters", "--json")
    assert json.loads(zooaudit(*words).stdout)["accuracy"]["ledger"]["b_only"] == 50


def test_an_audit_of_recorded_models_compares_every_pair_and_groups_what_is_alike(zooaudit, small):
    for name, right in {"good": 180, "alike": 178, "bad": 90}.items():
        imported(zooaudit, name, small(name, right))
    audit = json.loads(zooaudit("audit", "--zoo", "recorded", "--dataset", "letters", "--json").stdout)
    assert audit["summary"]["comparisons"] == 3
    groups = [[model["ref"] for model in group["models"]] for group in audit["summary"]["accuracy_groups"]]
    assert groups == [["recorded:good", "recorded:alike"], ["recorded:bad"]]
    tests = [item["details"] for item in audit["findings"] if item["metric"] == "top1"]
    assert all(test["q_value"] >= test["p_value"] for test in tests)
    refused = zooaudit("audit", "--zoo", "recorded", "--zoo", "timm", "--dataset", "letters", status=2)
    assert "audited among themselves" in refused.stderr
    few = zooaudit("audit", "--zoo", "recorded", "--dataset", "letters", "--model", "goo*", status=2)
    assert "letters has predictions of recorded:alike, recorded:bad, recorded:good" in few.stderr


def test_an_import_over_rest(settings, database, small):
    with TestClient(create_app(settings)) as client:
        request = {"model": "recorded:one", "dataset": "letters", "path": small("one", 150)}
        reply = client.post("/v1/predictions/imports", json=request)
        assert reply.status_code == 202, reply.text
        where = reply.headers["Location"]
        assert (reply.json()["state"], reply.json()["prediction"]) == ("queued", None)
        work(LocalWorker(settings, database, slots=1), lambda: client.get(where).json()["state"] == "succeeded")
        found = client.get(where).json()["prediction"]
        assert (found["model"], found["items"], found["top1"], found["recorded"]) == ("recorded:one", 200, 0.75, True)
        assert client.get("/v1/predictions", params={"dataset": "letters"}).json()["items"] == [found]
        assert client.get("/v1/datasets/letters").json()["digest"] == found["items_digest"]
        refused = client.post("/v1/predictions/imports", json=request | {"path": "one.npz"})
        assert "not absolute" in refused.json()["detail"]
        assert client.get(f"/v1/predictions/imports/{uuid.uuid4()}").status_code == 404


def work(worker, until):
    """Run a local worker until a condition holds."""
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not until():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.05)
    finally:
        worker.stop.ask(0.0)
        thread.join()


def test_the_items_of_a_comparison_are_paged_by_cell(zooaudit, small):
    ids = np.array([f"{number:03}.jpg" for number in range(200)])
    imported(zooaudit, "one", small("one", 150, ids=ids))
    imported(zooaudit, "two", small("two", 120, ids=ids))
    words = ("compare", "recorded:one", "recorded:two", "--dataset", "letters", "--json")
    answer = json.loads(zooaudit(*words).stdout)
    with TestClient(create_app(zooaudit.settings)) as client:
        where = f"/v1/comparisons/{answer['id']}/items"
        pages, cursor = [], None
        while not pages or cursor is not None:
            further = {} if cursor is None else {"cursor": cursor}
            page = client.get(where, params={"cell": "a_only", "limit": 12} | further).json()
            pages.append(page["items"])
            cursor = page["next_cursor"]
        found = [item for page in pages for item in page]
        assert [item["item"] for item in found] == list(range(120, 150))
        assert found[0] == {
            "item": 120,
            "id": "120.jpg",
            "label": 0,
            "cell": "a_only",
            "a": {"class": 0, "score": pytest.approx(0.8)},
            "b": {"class": 1, "score": pytest.approx(0.8)},
        }
        for cell, number in answer["accuracy"]["ledger"].items():
            assert len(client.get(where, params={"cell": cell, "limit": 200}).json()["items"]) == number
        assert len(client.get(where, params={"label": 3, "limit": 200}).json()["items"]) == 20
        assert client.get(where, params={"min_score": 0.9}).json()["items"] == []
        assert client.get(where, params={"cursor": "x"}).status_code == 422
        assert client.get(f"/v1/comparisons/{uuid.uuid4()}/items").status_code == 404
