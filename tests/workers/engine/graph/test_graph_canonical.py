"""Different spellings of one network have one fingerprint; different networks have not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from workers.engine.graph.canonical import CanonicalGraph, canonical_model, canonicalise
from workers.engine.graph.compare import compare


def w(*shape: int, positive: bool = False) -> np.ndarray:
    drawn = np.random.default_rng([3, *shape]).normal(size=shape).astype(np.float32)
    return np.abs(drawn) + np.float32(0.5) if positive else drawn


def i64(*numbers: int) -> np.ndarray:
    return np.asarray(numbers, dtype=np.int64)


NORM = {"g": w(8), "b": w(8), "m": w(8), "v": w(8, positive=True)}
HEAD = "p = GlobalAveragePool(r) f = Flatten(p) y = Gemm<transB=1>(f, k2, q2)"
PLAIN = (
    "g (float[1,3,8,8] x) => (float[1,5] y) {"
    f"c = Conv<pads=[1,1,1,1]>(x, k) n = BatchNormalization(c, g, b, m, v) r = Relu(n) {HEAD} }}"
)
PLAIN_WEIGHTS = {"k": w(8, 3, 3, 3), "k2": w(5, 8), "q2": w(5), **NORM}

NHWC = """g (float[1,8,8,3] x) => (float[1,5] y) {
  z = Pad(x, pads) t = Transpose<perm=[0,3,1,2]>(z) c = Conv(t, k) u = Transpose<perm=[0,2,3,1]>(c)
  e = Add(u, q) s = Sub(e, m) a = Add(v, eps) d = Sqrt(a) i = Reciprocal(d) h = Mul(i, g) j = Mul(s, h) n = Add(j, b)
  r = Relu(n) p = ReduceMean<keepdims=0>(r, axes) o = MatMul(p, k2) y = Add(o, q2) }"""
NHWC_WEIGHTS = {
    "k": w(8, 3, 3, 3), "k2": w(8, 5), "q2": w(5), "q": w(8), "eps": np.float32(1e-5), "axes": i64(1, 2),
    "pads": i64(0, 1, 1, 0, 0, 1, 1, 0), **NORM,
}  # fmt: skip

CAFFE = """g (float[1,3,8,8] x) => (float[1,5,1,1] y) {
  c = Conv<pads=[1,1,1,1]>(x, k, q) n = BatchNormalization(c, g, b, m, v) s = Mul(n, g3) t = Add(s, b3)
  r = Relu(t) p = AveragePool<kernel_shape=[8,8]>(r) d, mask = Dropout(p) y = Conv(d, k2, q2) }"""
CAFFE_WEIGHTS = {
    "k": w(8, 3, 3, 3), "q": w(8), "g3": w(8, 1, 1), "b3": w(8, 1, 1), "k2": w(5, 8, 1, 1), "q2": w(5), **NORM,
}  # fmt: skip


@pytest.fixture
def graph_of(build_model: Any, save_model: Any) -> Any:
    def canonical(text: str, *, opset: int = 20, **weights: Any) -> CanonicalGraph:
        return canonicalise(save_model(build_model(text, opset=opset, **weights)))

    return canonical


def severities(found: dict[str, Any]) -> set[str]:
    return {difference["severity"] for difference in found["differences"]}


def test_keras_spelling_equals_torch_spelling(graph_of: Any) -> None:
    a, b = graph_of(PLAIN, **PLAIN_WEIGHTS), graph_of(NHWC, **NHWC_WEIGHTS)
    assert a.fingerprint == b.fingerprint
    found = compare(a, b)
    assert [item["attribute"] for item in found["differences"]] == ["layout"]
    assert found["verdict"] == "different"
    assert "not proven" in found["note"]
    # The redundant bias before batch-norm was published, so it is counted.
    assert b.counts["parameters"] == a.counts["parameters"] + 8
    assert a.counts["buffers"] == b.counts["buffers"] == 16


def test_caffe_spelling_differs_in_its_output_shape_alone(graph_of: Any) -> None:
    # The Caffe2 operators of opset 9 have Dropout with an attribute and Softmax over flattened axes.
    a, b = graph_of(PLAIN, **PLAIN_WEIGHTS), graph_of(CAFFE, opset=9, **CAFFE_WEIGHTS)
    found = compare(a, b)
    assert [(item["kind"], item["severity"], item["b"]["op"]) for item in found["differences"]] == [
        ("inserted", "interface", "Reshape")
    ]


def test_folded_batch_norm_is_a_cosmetic_difference(graph_of: Any) -> None:
    folded = PLAIN.replace("c = Conv<pads=[1,1,1,1]>(x, k) n = BatchNormalization(c, g, b, m, v)",
                           "n = Conv<pads=[1,1,1,1]>(x, k, q)")  # fmt: skip
    a, b = graph_of(PLAIN, **PLAIN_WEIGHTS), graph_of(folded, k=w(8, 3, 3, 3), q=w(8), k2=w(5, 8), q2=w(5))
    assert a.fingerprint == b.fingerprint
    assert severities(compare(a, b)) == {"cosmetic"}


def test_epsilon_is_a_numeric_difference_and_never_identical(graph_of: Any) -> None:
    other = PLAIN.replace("BatchNormalization(", "BatchNormalization<epsilon=0.001>(")
    found = compare(graph_of(PLAIN, **PLAIN_WEIGHTS), graph_of(other, **PLAIN_WEIGHTS))
    (difference,) = found["differences"]
    assert (difference["attribute"], difference["severity"]) == ("epsilon", "numeric")
    assert (difference["a"]["value"], difference["b"]["value"]) == (1e-05, 0.001)
    assert found["verdict"] == "different"


def test_names_operand_order_and_batch_do_not_matter(graph_of: Any) -> None:
    text = "g (float[1,3,8,8] x) => (float[1,8,8,8] y) { a = Conv<pads=[1,1,1,1]>(x, k) b = Conv(x, l) y = Add(a, b) }"
    other = (
        "g (float[4,3,8,8] q) => (float[4,8,8,8] z)"
        "{ one = Conv(q, second) two = Conv<pads=[1,1,1,1]>(q, first) z = Add(one, two) }"
    )
    a = graph_of(text, k=w(8, 3, 3, 3), l=w(8, 3, 1, 1))
    b = graph_of(other, first=w(8, 3, 3, 3), second=w(8, 3, 1, 1))
    assert a.fingerprint == b.fingerprint
    assert a.counts == b.counts
    assert compare(a, b)["verdict"] == "identical"


def test_symbolic_batch_is_one(graph_of: Any) -> None:
    a = graph_of(PLAIN, **PLAIN_WEIGHTS)
    b = graph_of(PLAIN.replace("[1,3,8,8]", "[N,3,8,8]").replace("[1,5]", "[N,5]"), **PLAIN_WEIGHTS)
    assert a.to_json() == b.to_json()


def test_constant_nodes_equal_initializers_of_an_old_opset(graph_of: Any) -> None:
    old = "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Clip<min=0.0, max=6.0>(x) }"
    new = "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { a = Constant<value_float=6.0>() y = Clip(x, low, a) }"
    assert graph_of(old, opset=7).fingerprint == graph_of(new, low=np.float32(0)).fingerprint


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("pads=[1,1,1,1]", "pads=[0,0,2,2]"),
        ("pads=[1,1,1,1]", "pads=[1,1,1,1], strides=[2,2]"),
        ("pads=[1,1,1,1]", "pads=[2,2,2,2], dilations=[2,2]"),
        ("r = Relu(n)", "r = Sigmoid(n)"),
        ("r = Relu(n)", "i = Relu(n) r = Relu(i) t = Sigmoid(r)"),
        ("n = BatchNormalization(c, g, b, m, v) r = Relu(n)", "n = Relu(c) r = BatchNormalization(n, g, b, m, v)"),
    ],
)
def test_meaning_changes_the_fingerprint(graph_of: Any, before: str, after: str) -> None:
    assert before in PLAIN
    text = PLAIN.replace(before, after)
    if "t = Sigmoid" in text:
        text = text.replace("GlobalAveragePool(r)", "GlobalAveragePool(t)")
    a, b = graph_of(PLAIN, **PLAIN_WEIGHTS), graph_of(text, **PLAIN_WEIGHTS)
    assert a.fingerprint != b.fingerprint
    assert "structural" in severities(compare(a, b))


@pytest.mark.parametrize("name", ["squeezenet", "inception_v1", "shufflenet", "densenet121"])
def test_canonical_form_is_stable_and_round_trips(light: Any, tmp_path: Any, name: str) -> None:
    path = light / f"light_{name}.onnx"
    graph = canonicalise(path)
    again = CanonicalGraph.from_json(json.loads(json.dumps(graph.to_json())))
    assert again == graph
    assert again.fingerprint == graph.fingerprint
    model, _ = canonical_model(path)
    ir.save(model, tmp_path / "canonical.onnx")
    second = canonicalise(tmp_path / "canonical.onnx")
    assert second.fingerprint == graph.fingerprint
    assert [node.source for node in second.nodes] == [node.source for node in graph.nodes]
    assert all(source < node.id for node in graph.nodes for source, _ in node.inputs)


def test_other_form_is_refused(graph_of: Any) -> None:
    value = {**graph_of(PLAIN, **PLAIN_WEIGHTS).to_json(), "form": 0}
    with pytest.raises(ValueError, match="canonicalise the model again"):
        CanonicalGraph.from_json(value)


@pytest.mark.parametrize("spelling", ["channels last", "Caffe"])
def test_whole_pipeline_keeps_the_function(build_model: Any, save_model: Any, run_model: Any, spelling: str) -> None:
    last = spelling == "channels last"
    before = build_model(NHWC, **NHWC_WEIGHTS) if last else build_model(CAFFE, opset=9, **CAFFE_WEIGHTS)
    model, _ = canonical_model(save_model(before))
    (expected,) = run_model(before)
    (actual,) = run_model(ir.to_proto(model), transpose=last)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(expected, actual, rtol=1e-5, atol=1e-5)


def test_scales_of_a_resize_give_its_shape(build_model: Any, save_model: Any) -> None:
    graph = 'g (float[1,4,8,8] x) => (float[1,4,16,16] y) { r = Relu(x) z = Resize<mode="linear">(r, , s) y = Relu(z) }'
    model = build_model(graph, s=np.asarray([1, 1, 2, 2], np.float32))
    shapes = {node.op: node.shape for node in canonicalise(save_model(model)).nodes}
    assert shapes["Resize"] == (1, 4, 16, 16)
