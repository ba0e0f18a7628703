"""Files of predictions as they come: refused with one sentence and nothing left of them, or mapped to the data set."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from workers.engine.accuracy import labels
from workers.local import LocalWorker

N = 200
LABELS = np.arange(N) % 10
CLASSES = np.stack([(LABELS + 1) % 10, LABELS], axis=1)
SCORES = np.tile([0.2, 0.8], (N, 1))
IDS = np.array([f"{number:03}.jpg" for number in range(N)])


def changed(array, row, value):
    copy = array.copy()
    copy[row] = value
    return copy


BAD = {
    "wrong shape": ({"classes": LABELS}, r"array 'classes' is int64 \(200,\)"),
    "other rows": ({"scores": SCORES[:, :1]}, r"array 'scores' has the shape \(200, 1\)"),
    "label out of range": ({"labels": changed(LABELS, 17, 12)}, "array 'labels', row 17 has a label"),
    "class out of range": ({"classes": changed(CLASSES, (23, 1), 11)}, "array 'classes', row 23 has a class"),
    "class twice": ({"classes": changed(CLASSES, 24, 3)}, "array 'classes', row 24 has the same class twice"),
    "nan": ({"scores": changed(SCORES, (31, 0), np.nan)}, "array 'scores', row 31 has a score that is not finite"),
    "id twice": ({"ids": changed(IDS, 44, IDS[3])}, "array 'ids', row 44 has an id that another row has too"),
    "id missing": ({"ids": changed(IDS, 45, "other")}, "Array 'ids' lacks the item '045.jpg'"),
    "fewer": ({"labels": LABELS[:90], "classes": CLASSES[:90], "scores": SCORES[:90]}, "Array 'labels' has 90 rows"),
    "other items": ({"labels": (LABELS + 3) % 10}, r"Array 'labels', row 0 is 3, but data set tens has 0"),
    "no items": ({"labels": LABELS[:0]}, "array 'labels' is int64"),
    "objects": ({"labels": LABELS.astype(object)}, "array 'labels' holds Python objects"),
    "empty file": (None, "empty file.npz cannot be read as an .npz archive"),
}


@pytest.fixture
def file(tmp_path):
    """Write a file of predictions whose arrays are changed as said; None writes an empty file."""

    def write(name, changes):
        path = tmp_path / f"{name}.npz"
        path.write_bytes(b"")
        if changes is not None:
            np.savez(path, **({"labels": LABELS, "classes": CLASSES, "scores": SCORES} | changes))
        return str(path)

    return write


@pytest.fixture
def imported(settings, database):
    """Import files over REST, in order, with a real worker; returns what is shown of each import."""
    worker = LocalWorker(settings, database, slots=1)
    thread = threading.Thread(target=worker.run)
    thread.start()
    with TestClient(create_app(settings)) as client:

        def call(dataset, path, **fields):
            request = {"model": "recorded:any", "dataset": dataset, "path": path} | fields
            reply = client.post("/v1/predictions/imports", json=request)
            assert reply.status_code == 202, reply.text
            deadline = time.monotonic() + 60
            while (shown := client.get(reply.headers["Location"]).json())["state"] not in {"succeeded", "failed"}:
                assert time.monotonic() < deadline, "it did not happen in time"
                time.sleep(0.02)
            return shown

        call.client = client
        yield call
    worker.stop.ask(0.0)
    thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_bad_files_are_refused_over_rest_and_nothing_stays(imported, file):
    good = imported("tens", file("good", {"ids": IDS}), label_space="digits")
    assert good["state"] == "succeeded"
    for name, (changes, sentence) in BAD.items():
        for dataset in ("tens", "new"):
            if dataset == "new" and sentence[0] == "A":
                continue  # that is wrong for this data set only
            shown = imported(dataset, file(name, changes), **({"label_space": "digits"} if dataset == "new" else {}))
            assert (shown["state"], shown["prediction"]) == ("failed", None), name
            assert re.search(sentence, shown["error"]["message"]), shown["error"]["message"]
    kept = imported.client.get("/v1/predictions").json()["items"]
    assert [item["id"] for item in kept] == [good["prediction"]["id"]]
    assert imported.client.get("/v1/datasets/new").status_code == 404


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_fine_answers_join_a_coarsely_labelled_data_set_over_rest(imported, file):
    _, above = labels.superclasses("cifar-100")
    fine = np.arange(N) % 100
    answers = np.stack([np.roll(fine, 1), fine], axis=1)
    coarse = {"labels": above[fine], "classes": above[fine][:, None], "scores": np.ones((N, 1))}
    assert imported("pictures", file("coarse", coarse), label_space="cifar-100-coarse")["state"] == "succeeded"
    path = file("fine", {"labels": fine, "classes": answers})
    assert imported("pictures", path, label_space="cifar-100")["prediction"]["top1"] == 1.0
    refused = imported("pictures", path, label_space="cifar-10")["error"]["message"]
    assert "no mapping is known" in refused
    assert "no class index of 20 classes" in imported("pictures", path)["error"]["message"]
    assert imported.client.get("/v1/datasets/pictures").json()["classes"] == 20


@pytest.mark.slow
def test_a_bad_file_is_exit_code_2_and_a_background_class_is_mapped(tmp_path, file):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZOOAUDIT_")}
    environment = kept | {"ZOOAUDIT_DATA_DIR": str(tmp_path / "data")}

    def zooaudit(*words):
        command = [sys.executable, "-m", "app.cli", "predictions", "import", "--dataset", "val", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    known = file("known", {})
    assert zooaudit("--model", "recorded:a", "--label-space", "imagenet-1k", known).returncode == 0
    other = file("other", {"classes": CLASSES + 1})
    done = zooaudit("--model", "recorded:b", "--label-space", "imagenet-1k-background", other, "--json")
    assert json.loads(done.stdout)["top1"] == 1.0
    done = zooaudit("--model", "recorded:c", file("bad", {"classes": changed(CLASSES, (7, 0), 1000)}))
    assert (done.returncode, done.stdout) == (2, "")
    assert "array 'classes', row 7 has a class that is no class index of 1,000 classes" in done.stderr
    assert "Traceback" not in done.stderr
