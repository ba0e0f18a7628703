"""``zooaudit drift`` on two audits of a team's own zoos, a file of which changed between them."""

from __future__ import annotations

import json
import uuid

import pytest


@pytest.fixture
def zoo(network):
    """Return what writes a team's own zoo: models by name, each with its channels and classes."""

    def write(folder, **models):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "zoo.toml").write_text(
            "\n".join(
                f'[models.{name}]\nframework = "onnx"\nweights = {{ v1 = "{name}.onnx" }}\nclasses = {classes}'
                for name, (_, classes) in models.items()
            )
        )
        for name, (channels, classes) in models.items():
            network(folder / f"{name}.onnx", channels, classes)

    return write


def test_drift_as_a_table_and_as_json(open_command_line, zoo, tmp_path):
    first, second = tmp_path / "zoos" / "first", tmp_path / "zoos" / "second"
    zoo(first, net=(4, 10), other=(2, 10))
    zoo(second, net=(4, 10), other=(2, 10))
    words = ["audit", "--zoo", "first", "--zoo", "second", "--dimension", "architecture", "--json"]
    with open_command_line(tmp_path / "data", tmp_path / "zoos") as zooaudit:
        before = json.loads(zooaudit(*words).stdout)["id"]
        zoo(first, net=(4, 12), new=(2, 10))
        after = json.loads(zooaudit(*words).stdout)["id"]
        alone = zooaudit("drift", after, status=2)
        table = zooaudit("drift", after, "--against", before).stdout
        answer = json.loads(zooaudit("drift", after, "--against", before, "--json").stdout)
        same = zooaudit("drift", after, "--against", after).stdout
        unknown = zooaudit("drift", after, "--against", str(uuid.uuid4()), status=2)
    assert "belongs to no schedule" in alone.stderr
    assert "There is no audit" in unknown.stderr
    assert "nothing changed" in same
    assert "3 findings unchanged" in same
    said = "listings 1 new, 1 gone, 1 changed; artifacts 1 changed; pairs 1 changed; findings 3 vanished, 3 moved"
    assert said in " ".join(table.split())
    for text in ("first:new@v1", "first:other@v1", "classes: 10 → 12", "not interchangeable", "verdict, effect"):
        assert text in table
    assert answer["listings"]["changed"] == [
        {"ref": "first:net@v1", "fields": [{"field": "classes", "before": 10, "after": 12}]}
    ]
    assert answer["summary"]["findings_moved"] == len(answer["findings"]["moved"]) == 3
