"""What cannot be judged is refused with a reason that names the node."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import pytest

from workers.engine.graph.canonical import canonicalise
from workers.engine.graph.passes import rewriting
from workers.engine.protocol import SubjectError

FLOAT = onnx.TensorProto.FLOAT


def model(nodes: list[Any], *, shape: tuple[Any, ...] = (1, 4), imports: dict[str, int] | None = None) -> Any:
    graph = oh.make_graph(
        nodes, "g", [oh.make_tensor_value_info("x", FLOAT, shape)], [oh.make_tensor_value_info("y", FLOAT, None)]
    )
    opsets = [oh.make_opsetid(domain, version) for domain, version in (imports or {"": 20}).items()]
    return oh.make_model(graph, opset_imports=opsets, ir_version=8)


def refusal(save_model: Any, proto: Any) -> SubjectError:
    with pytest.raises(SubjectError) as caught:
        canonicalise(save_model(proto))
    return caught.value


def test_custom_operator(save_model: Any) -> None:
    relus = [oh.make_node("Relu", ["x" if index == 0 else f"v{index - 1}"], [f"v{index}"]) for index in range(12)]
    proto = model(
        [*relus, oh.make_node("Foo", ["v11"], ["y"], domain="com.example")], imports={"": 20, "com.example": 1}
    )
    error = refusal(save_model, proto)
    assert error.code == "custom-operator"
    assert error.message == "unsupported: custom operator com.example.Foo at node 12"


def test_unknown_operator(save_model: Any) -> None:
    error = refusal(save_model, model([oh.make_node("Foo", ["x"], ["y"], name="strange")]))
    assert error.message == "unsupported: operator Foo of opset 20 at node 0 (strange)"


def test_control_flow(save_model: Any) -> None:
    branch = oh.make_graph([oh.make_node("Relu", ["x"], ["z"])], "b", [], [oh.make_tensor_value_info("z", FLOAT, None)])
    condition = oh.make_node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(np.asarray(True)))  # noqa: FBT003
    chosen = oh.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    assert "control flow operator If at node 1" in refusal(save_model, model([condition, chosen])).message


def test_cycle(save_model: Any) -> None:
    nodes = [
        oh.make_node("Relu", ["x"], ["a"], name="first"),
        oh.make_node("Add", ["a", "c"], ["b"], name="loop"),
        oh.make_node("Relu", ["b"], ["c"]),
        oh.make_node("Relu", ["c"], ["y"]),
    ]
    error = refusal(save_model, model(nodes))
    assert error.code == "cyclic-graph"
    assert "node 1 (Add loop)" in error.message


def test_missing_initializer(save_model: Any) -> None:
    error = refusal(save_model, model([oh.make_node("Relu", ["x"], ["a"]), oh.make_node("Add", ["a", "w"], ["y"])]))
    assert error.code == "missing-initializer"
    assert error.message.startswith("node 1 (Add) reads 'w'")


def test_no_nodes(save_model: Any) -> None:
    assert refusal(save_model, model([])).code == "no-nodes"


@pytest.mark.parametrize("opset", [6, 99])
def test_opset(save_model: Any, opset: int) -> None:
    error = refusal(save_model, model([oh.make_node("Relu", ["x"], ["y"])], imports={"": opset}))
    assert error.code == "unsupported-opset"
    assert f"uses opset {opset}; 7 to" in error.message


def test_dynamic_size(save_model: Any) -> None:
    error = refusal(save_model, model([oh.make_node("Relu", ["x"], ["y"])], shape=("batch", 3, "height", 8)))
    assert "dynamic dimension height at axis 2" in error.message


def test_truncated_file(light: Any, tmp_path: Any) -> None:
    whole = (light / "light_squeezenet.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for length in (0, 10, len(whole) // 2, len(whole) - 7):
        path.write_bytes(whole[:length])
        with pytest.raises(SubjectError):
            canonicalise(path)


def test_other_bytes_and_no_file(tmp_path: Any) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("this is no model\n" * 50)
    with pytest.raises(SubjectError, match="cannot be read as an ONNX model"):
        canonicalise(path)
    with pytest.raises(SubjectError, match="does not exist"):
        canonicalise(tmp_path / "absent.onnx")


def test_shape_that_depends_on_the_data(save_model: Any) -> None:
    nodes = [oh.make_node("NonZero", ["x"], ["n"]), oh.make_node("Cast", ["n"], ["y"], to=FLOAT)]
    error = refusal(save_model, model(nodes))
    assert error.code == "unknown-shape"
    assert "NonZero" in error.message


def test_wrong_rank_is_a_reason_not_a_crash(save_model: Any) -> None:
    kernel = onnx.numpy_helper.from_array(np.zeros((2, 2), np.float32), "k")
    proto = model([oh.make_node("Conv", ["x", "k"], ["y"])])
    proto.graph.initializer.append(kernel)
    assert refusal(save_model, proto).failure_class == "subject"


def test_names_that_another_process_gave_do_not_collide(build_model: Any, save_model: Any, monkeypatch: Any) -> None:
    # An exported file holds constants that the passes of the exporting process named with its own serial numbers.
    proto = build_model("g (float[1,4] x) => (float[1,2,2] y) { a = Constant<value_ints=[1,2,2]>() y = Reshape(x, a) }")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray([1, 2, 2]), "a::7"))
    monkeypatch.setattr(rewriting, "_serial", itertools.count(7))
    assert canonicalise(save_model(proto)).counts["nodes"] == 1


def test_hundred_thousand_nodes_are_refused_and_many_are_read_in_time(save_model: Any) -> None:
    def chain(length: int) -> Any:
        names = ["x", *(f"v{index}" for index in range(length - 1)), "y"]
        return model([oh.make_node("Relu", [names[index]], [names[index + 1]]) for index in range(length)])

    started = time.process_time()
    error = refusal(save_model, chain(100_001))
    assert error.message == "unsupported: model.onnx has 100001 nodes; at most 100000 are compared."
    assert canonicalise(save_model(chain(10_000))).counts["nodes"] == 10_000
    # A tenth of the largest graph; benchmarks/architecture_speed.py reads the whole.
    assert time.process_time() - started < 60
