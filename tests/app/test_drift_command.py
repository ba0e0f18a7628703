"""``zooaudit drift`` on two audits of a team's own zoos, a file of which changed between them."""

from __future__ import annotations

import json
import uuid

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

numpy = pytest.importorskip("numpy")


def zoo(folder, **models):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "zoo.toml").write_text(
        "\n".join(
            f'[models.{name}]\nframework = "onnx"\nweights = {{ v1 = "{name}.onnx" }}\nclasses = {classes}'
            for name, (_, classes) in models.items()
        )
    )
    for name, (channels, classes) in models.items():
        weights = [
            numpy_helper.from_array(numpy.ones(shape, dtype=numpy.float32), key)
            for key, shape in (("w", (channels, 3, 3, 3)), ("v", (channels, classes)))
        ]
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("GlobalAveragePool", ["c"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("MatMul", ["f", "v"], ["y"]),
        ]
        ends = [
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape)]
            for key, shape in (("x", [1, 3, 8, 8]), ("y", [1, classes]))
        ]
        graph = helper.make_graph(nodes, "network", *ends, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, folder / f"{name}.onnx")


def test_drift_as_a_table_and_as_json(open_command_line, tmp_path):
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
