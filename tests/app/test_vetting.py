"""``zooaudit vet`` and ``zooaudit policies`` with trained models of the digits zoos, measured by a real worker."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples/digits"
ZOOS = ("digits-torch", "digits-keras")
TORCH, KERAS = "digits-torch:mlp", "digits-keras:mlp"


@pytest.fixture(scope="module")
def zooaudit(open_command_line, tmp_path_factory):
    root = tmp_path_factory.mktemp("vetting")
    for zoo in ZOOS:
        shutil.copytree(EXAMPLES / zoo, root / zoo, ignore=shutil.ignore_patterns("weights", "__pycache__"))
    train = [sys.executable, str(EXAMPLES / "train.py"), "--root", str(root), "--model", "mlp"]
    subprocess.run(train, capture_output=True, check=True, timeout=300)
    with open_command_line(root / "data", *(root / zoo for zoo in ZOOS)) as command_line:
        yield command_line


@pytest.fixture
def policy(tmp_path):
    def write(**fields):
        path = tmp_path / "policy.yaml"
        # JSON is YAML too.
        path.write_text(json.dumps({"name": "ours"} | fields))
        return path

    return write


def vet(zooaudit, candidate, reference, policy, *words, status):
    called = zooaudit("vet", candidate, "--against", reference, "--policy", policy, *words, "--json", status=status)
    return json.loads(called.stdout)


def jobs(zooaudit):
    import sqlite3

    with sqlite3.connect(zooaudit.settings.data_dir / "zooaudit.db") as database:
        return database.execute("SELECT count(*) FROM jobs").fetchone()[0]


@pytest.mark.slow
def test_the_exit_codes_are_0_pass_1_fail_3_not_enough_and_2_error(zooaudit, policy, tmp_path):
    answers = {"critical": ["accuracy"], "advisory": ["interface", "architecture"]}
    on = ("--dataset", "digits")
    wide = vet(zooaudit, TORCH, KERAS, policy(**answers, accuracy_margin=0.05), *on, status=0)
    assert (wide["verdict"], wide["policy"]["version"]) == ("pass", None)
    usual = vet(zooaudit, TORCH, KERAS, policy(**answers), *on, status=3)
    assert usual["verdict"] == "not_enough_evidence"
    (number,) = usual["checks"][0]["numbers"]
    assert number["ci95"][0] < number["effect"] < number["ci95"][1]
    assert "items (this one has 896)" in usual["needed"][0]
    api = vet(zooaudit, TORCH, KERAS, "drop-in-api", *on, "--dimension", "accuracy", status=1)
    assert "Interface: input" in api["reason"]
    backbone = vet(zooaudit, TORCH, KERAS, "fine-tune-backbone", status=3)
    assert "Weights: the models are not the same bytes" in backbone["reason"]
    assert vet(zooaudit, TORCH, TORCH, "embedding-index", status=0)["verdict"] == "pass"
    for words in (
        (TORCH, "--against", "digits-keras:mpl", "--policy", "default"),
        (TORCH, "--against", KERAS, "--policy", "defautl"),
        (TORCH, "--against", KERAS),
        (TORCH, "--policy", "default"),
        ("--comparison", api["comparison_id"], "--against", KERAS, "--policy", "default"),
        (TORCH, "--against", KERAS, "--policy", policy(acuracy_margin=1)),
        (TORCH, "--against", f"file:{tmp_path / 'absent.onnx'}", "--policy", "fine-tune-backbone"),
    ):
        refused = zooaudit("vet", *words, status=2)
        assert refused.stdout == ""
        assert refused.stderr


@pytest.mark.slow
def test_a_stored_comparison_is_judged_by_other_policies_without_measuring(zooaudit, policy, tmp_path):
    answers = {"critical": ["accuracy"], "advisory": ["interface"]}
    first = vet(zooaudit, TORCH, KERAS, policy(**answers), "--dataset", "digits", status=3)
    before = jobs(zooaudit)
    stored = ("vet", "--comparison", first["comparison_id"], "--policy")
    lenient = policy(**answers, accuracy_margin=0.05)
    summary = tmp_path / "summary.md"
    shown = zooaudit(*stored, lenient, "--markdown", summary, status=0).stdout
    assert " ".join(shown.split()).startswith(f"{TORCH} in place of {KERAS}: pass")
    assert summary.read_text().startswith("### Vetting: pass\n")
    assert "| accuracy | critical | inside |" in summary.read_text()
    zooaudit(*stored, "drop-in-api", status=1)
    again = json.loads(zooaudit(*stored, policy(**answers), "--json", status=3).stdout)
    assert (again["reason"], again["checks"]) == (first["reason"], first["checks"])
    assert jobs(zooaudit) == before


@pytest.mark.slow
def test_policies_are_added_listed_and_shown(zooaudit, policy):
    zooaudit("policies", "add", policy(latency_margin=0.1))
    zooaudit("policies", "add", policy(latency_margin=0.1))
    (added,) = json.loads(zooaudit("policies", "add", policy(latency_margin=0.2), "--json").stdout)
    assert added["version"] == 2
    listed = {each["name"]: each["version"] for each in json.loads(zooaudit("policies", "list", "--json").stdout)}
    assert listed["ours"] == 2
    assert listed["drop-in-api"] == 1
    shown = json.loads(zooaudit("policies", "show", "ours", "--json").stdout)
    assert [each["latency_margin"] for each in shown["versions"]] == [0.2, 0.1]
    assert "20 %" in zooaudit("policies", "show", "ours").stdout
    compared = zooaudit("compare", TORCH, TORCH, "--dimension", "architecture", "--policy", "ours@1", "--json")
    assert json.loads(compared.stdout)["policy"]["version"] == 1
    refused = zooaudit("policies", "add", policy(acuracy_margin=0.1), status=2)
    assert "policy.yaml:1: A policy has no field acuracy_margin; did you mean accuracy_margin?" in refused.stderr
    assert (
        "ships with the project"
        in zooaudit("policies", "add", policy(name="default", size_margin=0.5), status=2).stderr
    )
    assert "Did you mean ours?" in zooaudit("policies", "show", "our", status=2).stderr
