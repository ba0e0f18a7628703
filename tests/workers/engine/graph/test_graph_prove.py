"""Two spellings of one function are proven the same; a difference that the diff cannot see is caught."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from workers.engine.graph import extract, passes, probe, prove, transplant
from workers.engine.graph.align import align
from workers.engine.graph.canonical import canonicalise
from workers.engine.graph.compare import compare
from workers.engine.graph.lockstep import relative_error
from workers.engine.graph.passes import rewriting as rw
from workers.engine.operations import compare as operation

if TYPE_CHECKING:
    from pathlib import Path


def w(*shape: int, seed: int = 3, positive: bool = False) -> np.ndarray:
    drawn = np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)
    return np.abs(drawn) + np.float32(0.5) if positive else drawn


def i64(*numbers: int) -> np.ndarray:
    return np.asarray(numbers, dtype=np.int64)


def norm(seed: int = 3) -> dict[str, np.ndarray]:
    return {"g": w(8, seed=seed), "b": w(8, seed=seed + 1), "m": w(8, seed=seed + 2), "v": w(8, positive=True)}


HEAD = "p = GlobalAveragePool(r) f = Flatten(p) y = Gemm<transB=1>(f, k2, q2)"
PLAIN = (
    "g (float[1,3,8,8] x) => (float[1,5] y) {"
    f"c = Conv<pads=[1,1,1,1]>(x, k) n = BatchNormalization(c, g, b, m, v) r = Relu(n) {HEAD} }}"
)
WEIGHTS = {"k": w(8, 3, 3, 3), "k2": w(5, 8), "q2": w(5), **norm()}
OTHER = {"k": w(8, 3, 3, 3, seed=9), "k2": w(5, 8, seed=9), "q2": w(5, seed=9), **norm(9)}

NHWC = """g (float[1,8,8,3] x) => (float[1,5] y) {
  z = Pad(x, pads) t = Transpose<perm=[0,3,1,2]>(z) c = Conv(t, k) u = Transpose<perm=[0,2,3,1]>(c)
  e = Add(u, q) s = Sub(e, m) a = Add(v, eps) d = Sqrt(a) i = Reciprocal(d) h = Mul(i, g) j = Mul(s, h) n = Add(j, b)
  r = Relu(n) p = ReduceMean<keepdims=0>(r, axes) o = MatMul(p, k2) y = Add(o, q2) }"""
NHWC_WEIGHTS = {
    **OTHER, "k2": w(8, 5, seed=9), "q": w(8), "eps": np.float32(1e-5), "axes": i64(1, 2),
    "pads": i64(0, 1, 1, 0, 0, 1, 1, 0),
}  # fmt: skip
CAFFE = """g (float[1,3,8,8] x) => (float[1,5,1,1] y) {
  c = Conv<pads=[1,1,1,1]>(x, k, q) n = BatchNormalization(c, g, b, m, v) s = Mul(n, g3) t = Add(s, b3)
  r = Relu(t) p = AveragePool<kernel_shape=[8,8]>(r) d, mask = Dropout(p) y = Conv(d, k2, q2) }"""
CAFFE_WEIGHTS = {**OTHER, "q": w(8), "g3": w(8, 1, 1), "b3": w(8, 1, 1), "k2": w(5, 8, 1, 1, seed=9)}

AS_PUBLISHED = {"inputs": "as published", "outputs": "as published"}
BEFORE_FORM = {"inputs": "as published", "outputs": "before the output form"}


@pytest.fixture
def compared(build_model: Any, tmp_path: Path) -> Any:
    """The architecture block of two models, A with ``WEIGHTS`` and B with its own."""

    def run(
        a: str, b: str, weights: dict[str, Any], a_weights: dict[str, Any] | None = None, opset: int = 20
    ) -> dict[str, Any]:
        paths = tmp_path / "a", tmp_path / "b"  # stored files have no suffix
        used = (a_weights or WEIGHTS, weights)
        for path, text, given, version in zip(paths, (a, b), used, (20, opset), strict=True):
            path.write_bytes(build_model(text, opset=version, **given).SerializeToString())
        before = [path.read_bytes() for path in paths]
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        found = compare(*map(canonicalise, paths), (*paths, scratch))
        assert [path.read_bytes() for path in paths] == before
        assert list(scratch.iterdir()) == []
        json.dumps(found, allow_nan=False)
        return found

    return run


def test_another_layout_and_spelling_is_the_same_function(compared: Any) -> None:
    found = compared(PLAIN, NHWC, NHWC_WEIGHTS)
    proof = found["proof"]
    assert (found["verdict"], proof["ran"], proof["proven"]) == ("same_function", True, True)
    assert (proof["inputs"], proof["compared"], proof["first_divergence"]) == (3, AS_PUBLISHED, None)
    # Both results in float64 are exact to its rounding; float32's error is real and not zero.
    assert proof["error_float64"] < 1e-13
    assert 0 < proof["error_float32"]["b"] <= proof["tolerance"] < 1e-5
    assert all(0 < row["error"] <= row["tolerance"] for row in proof["published"].values())
    assert proof["redrawn"] == {"a": 0, "b": 0}
    assert proof["node_pairs"] == 5


def test_a_convolutional_head_is_compared_before_its_output_shape(compared: Any) -> None:
    found = compared(PLAIN, CAFFE, CAFFE_WEIGHTS, opset=9)
    assert (found["verdict"], found["proof"]["compared"]) == ("same_function", BEFORE_FORM)
    assert found["proof"]["error_float64"] < 1e-13


def test_probabilities_are_compared_before_the_softmax(compared: Any) -> None:
    ends = PLAIN.replace("y = Gemm<transB=1>(f, k2, q2)", "l = Gemm<transB=1>(f, k2, q2) y = Softmax(l)")
    found = compared(PLAIN, ends, OTHER)
    assert (found["verdict"], found["proof"]["compared"]) == ("same_function", BEFORE_FORM)


def test_a_background_class_is_left_out(compared: Any) -> None:
    weights = OTHER | {"k2": w(6, 8), "q2": w(6)}
    more = PLAIN.replace("float[1,5] y", "float[1,6] y")
    found = compared(PLAIN, more, weights)
    assert [item["attribute"] for item in found["differences"]] == ["output_features"]
    assert (found["verdict"], found["proof"]["compared"]) == ("same_function", BEFORE_FORM)
    assert found["proof"]["error_float64"] < 1e-13


def test_a_background_class_of_a_is_left_out(compared: Any) -> None:
    weights = OTHER | {"k2": w(6, 8), "q2": w(6)}
    found = compared(PLAIN.replace("float[1,5] y", "float[1,6] y"), PLAIN, OTHER, weights)
    assert (found["verdict"], found["proof"]["error_float64"] < 1e-13) == ("same_function", True)


def test_preprocessing_inside_the_graph_is_taken_off(compared: Any) -> None:
    inside = PLAIN.replace(
        "c = Conv<pads=[1,1,1,1]>(x, k)", "z = Sub(x, mean) s = Mul(z, a) c = Conv<pads=[1,1,1,1]>(s, k)"
    )
    found = compared(PLAIN, inside, OTHER | {"mean": w(3, 1, 1), "a": np.float32(1 / 57)})
    assert {item["severity"] for item in found["differences"]} == {"interface"}
    expected = {"inputs": "after preprocessing", "outputs": "as published"}
    assert (found["verdict"], found["proof"]["compared"]) == ("same_function", expected)


def test_folded_batch_norm_is_the_same_function(compared: Any) -> None:
    folded = PLAIN.replace(
        "Conv<pads=[1,1,1,1]>(x, k) n = BatchNormalization(c, g, b, m, v) r = Relu(n)",
        "Conv<pads=[1,1,1,1]>(x, k, g) r = Relu(c)",
    )
    found = compared(PLAIN, folded, {key: OTHER[key] for key in ("k", "k2", "q2", "g")})
    assert [item["severity"] for item in found["differences"]] == ["cosmetic"]
    assert (found["verdict"], found["proof"]["error_float64"]) == ("same_function", 0.0)


STANDALONE = PLAIN.replace(
    "c = Conv<pads=[1,1,1,1]>(x, k) n = B", "c = Conv<pads=[1,1,1,1]>(x, k) d = Sigmoid(c) n = B"
).replace("tion(c, g", "tion(d, g")


@pytest.mark.parametrize("text", [PLAIN, STANDALONE], ids=["folded", "on its own"])
def test_an_epsilon_is_the_same_function_only_below_float32_rounding(compared: Any, text: str) -> None:
    def other(epsilon: str) -> dict[str, Any]:
        return text.replace("BatchNormalization(", f"BatchNormalization<epsilon={epsilon}>(")

    found = compared(text, other("0.001"), OTHER)
    assert (found["verdict"], found["proof"]["proven"]) == ("different", False)
    effect = found["proof"]["effect"]
    # dy/y of one batch-norm is about -epsilon / 2v, with v between 0.5 and 3.
    assert 1e-5 < effect["relative"] < 2e-3
    assert effect["max_abs"] > 0
    assert found["proof"]["first_divergence"]["a"]["op"] == ("Conv" if text == PLAIN else "BatchNormalization")
    assert "did not compute the same" in found["note"]


def test_a_tiny_epsilon_difference_is_the_same_function(compared: Any) -> None:
    found = compared(PLAIN, PLAIN.replace("BatchNormalization(", "BatchNormalization<epsilon=0.00001001>("), OTHER)
    assert [item["severity"] for item in found["differences"]] == ["numeric"]
    assert found["verdict"] == "same_function"
    assert 1e-10 < found["proof"]["effect"]["relative"] < 1e-7


def test_equal_graphs_stay_identical_after_one_input(compared: Any) -> None:
    found = compared(PLAIN, PLAIN, OTHER)
    assert (found["verdict"], found["proof"]["proven"], found["proof"]["inputs"]) == ("identical", True, 1)
    assert (found["differences"], found["note"], found["proof"]["error_float64"]) == ([], None, 0.0)


def test_a_convolutional_head_over_a_whole_map_is_identical(compared: Any) -> None:
    # timm's VGG against torchvision's: [4,3,4,4] kernels on a 4x4 map, or the same numbers as a matrix.
    ends = "g (float[1,3,4,4] x) => (float[1,2] y) {"
    dense = f"{ends} f = Flatten(x) h = Gemm<transB=1>(f, k, q) r = Relu(h) y = Gemm<transB=1>(r, l) }}"
    convolutional = f"{ends} h = Conv(x, k, q) r = Relu(h) f = Flatten(r) y = Gemm(f, l) }}"
    weights = {"k": w(4, 48), "q": w(4), "l": w(2, 4)}
    found = compared(
        dense, convolutional, {"k": w(4, 3, 4, 4, seed=8), "q": w(4, seed=8), "l": w(4, 2, seed=8)}, weights
    )
    assert (found["verdict"], found["proof"]["proven"]) == ("identical", True)
    # The same result through other memory: the columns of the matrix are the kernel's channels, rows and columns.
    assert found["proof"]["published"]["b"]["error"] < 1e-6


def test_a_structural_difference_is_not_run(compared: Any) -> None:
    found = compared(PLAIN, PLAIN.replace("Relu", "Sigmoid"), OTHER)
    assert (found["verdict"], found["proof"]) == ("different", None)


def test_untrained_weights_are_redrawn(compared: Any) -> None:
    # Placeholder weights of one value each, as the onnx package's networks have: a flipped kernel would not show.
    flat = {key: np.full_like(array, 0.02) for key, array in WEIGHTS.items()}
    found = compared(PLAIN, NHWC, NHWC_WEIGHTS, flat)
    assert (found["verdict"], found["proof"]["redrawn"]) == ("same_function", {"a": 7, "b": 0})


def _flipped(monkeypatch: pytest.MonkeyPatch) -> None:
    own = transplant.wide

    def wide(node: ir.Node, index: int, epsilon: float | None = None) -> np.ndarray:
        found = own(node, index, epsilon)
        return np.swapaxes(found, 2, 3) if found.ndim == 4 else found

    monkeypatch.setattr(transplant, "wide", wide)


def test_a_transposed_kernel_in_the_transplant_is_caught(compared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _flipped(monkeypatch)
    flat = {key: np.full_like(array, 0.02) for key, array in WEIGHTS.items()}
    found = compared(PLAIN, NHWC, NHWC_WEIGHTS, flat)
    assert (found["verdict"], found["proof"]["proven"]) == ("different", False)
    divergence = found["proof"]["first_divergence"]
    assert (divergence["a"], divergence["b"]["op"]) == ({"node": "c", "op": "Conv"}, "Conv")
    assert divergence["error"] > 0.1


def test_an_attribute_that_the_diff_does_not_see_is_caught(compared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a = PLAIN.replace("Relu(n)", "LeakyRelu<alpha=0.1>(n)")
    monkeypatch.setattr(extract, "_IRRELEVANT", {*extract._IRRELEVANT, "alpha"})
    found = compared(a, a.replace("0.1", "0.11"), OTHER)
    assert (found["differences"], found["verdict"]) == ([], "different")
    divergence = found["proof"]["first_divergence"]
    assert (divergence["a"], divergence["b"]) == ({"node": "r", "op": "LeakyRelu"},) * 2
    assert "contradicts" in found["note"]


def test_a_pass_that_changes_the_function_is_caught(compared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_it(model: ir.Model) -> int:
        changed = 0
        for node in rw.nodes(model, "Relu"):
            rw.replace(
                node.outputs[0], rw.new_node(node, "Sigmoid", node.inputs[:1], shape=rw.shape_of(node.outputs[0]))
            )
            changed += 1
        return changed

    monkeypatch.setattr(passes, "STANDARD", [*passes.STANDARD, break_it])
    found = compared(PLAIN, PLAIN, OTHER)
    assert (found["verdict"], found["proof"]["proven"]) == ("different", False)
    assert found["proof"]["reason"].startswith("the canonical form of A does not compute")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("MAX_MACS", 10, "macs; models up to 10 are run"),
        ("MAX_PARAMETERS", 10, "parameters; models up to 10 are run"),
        ("SECONDS", -1.0, "the time for running the models was over"),
        ("MOST", 0.0, "nothing can be told"),
    ],
)
def test_a_proof_that_cannot_run_claims_nothing(
    compared: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: float, reason: str
) -> None:
    monkeypatch.setattr(prove, name, value)
    found = compared(PLAIN, NHWC, NHWC_WEIGHTS)
    assert (found["verdict"], found["proof"]["ran"], found["proof"]["proven"]) == ("different", False, None)
    assert reason in found["proof"]["reason"]
    assert reason in found["note"]


def test_equal_graphs_that_cannot_be_run_stay_identical_and_say_so(
    compared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prove, "MAX_MACS", 10)
    found = compared(PLAIN, PLAIN, OTHER)
    assert found["verdict"] == "identical"
    assert "up to 10 are run" in found["note"]


def test_inputs_of_different_sizes_cannot_be_given_to_both(compared: Any) -> None:
    found = compared(PLAIN, PLAIN.replace("8,8]", "9,9]"), OTHER)
    assert (found["verdict"], found["proof"]["proven"]) == ("different", None)
    assert "A takes inputs of shape [(1, 3, 8, 8)], B of [(1, 3, 9, 9)]" in found["note"]


def test_an_output_that_does_not_depend_on_the_input_proves_nothing(compared: Any) -> None:
    text = "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { z = Clip(x, low, high) y = Add(z, c) }"
    weights = {"low": np.float32(1e6), "high": np.float32(1e6), "c": w(3, 1, 1)}
    ends = text.replace("y = Add(z, c)", "s = Add(z, c) y = Softmax(s)")
    found = compared(text, ends, weights, weights)
    assert found["proof"]["proven"] is None
    assert "hardly depends on the input" in found["note"]


def test_a_text_encoder_is_run_on_its_vocabulary(compared: Any) -> None:
    text = """g (int64[1,6] ids) => (float[1,6,5] y) {
      e = Gather(table, ids) n = LayerNormalization(e, g, b) h = MatMul(n, k) a = Gelu(h) y = MatMul(a, k2) }"""
    weights = {"table": w(30, 4), "g": w(4), "b": w(4, seed=4), "k": w(4, 7), "k2": w(7, 5)}
    others = {key: w(*array.shape, seed=8) for key, array in weights.items()}
    found = compared(text, text, others, weights)
    assert (found["verdict"], found["proof"]["proven"]) == ("identical", True)


def test_transplant_makes_b_compute_a(build_model: Any, tmp_path: Path) -> None:
    paths = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    onnx.save(build_model(PLAIN, **WEIGHTS), paths[0])
    onnx.save(build_model(NHWC, **NHWC_WEIGHTS), paths[1])
    a, b = map(transplant.place, paths)
    drawn = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)

    def result(model: bytes) -> np.ndarray:
        return onnxruntime.InferenceSession(model).run(None, {"x": drawn})[0]

    expected = result(paths[0].read_bytes())
    assert relative_error([result(ir.to_proto(b.model).SerializeToString())], [expected]) > 0.1
    moved = transplant.transplant(a, b, align(a.graph, b.graph))
    assert len(moved) == 4  # kernel and bias of the convolution and of the classifier
    assert relative_error([result(ir.to_proto(b.model).SerializeToString())], [expected]) < 1e-6


def test_trained_weights_are_not_redrawn(build_model: Any, tmp_path: Path) -> None:
    trained = {**WEIGHTS, "q2": np.zeros(5, np.float32)}
    onnx.save(build_model(PLAIN, **trained), tmp_path / "m.onnx")
    path, redrawn = probe.probing_weights(tmp_path / "m.onnx", tmp_path / "copy.onnx")
    assert redrawn == 1  # one constant tensor of seven: the model is taken as trained
    found = {item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}
    assert all(np.array_equal(found[key], array) for key, array in WEIGHTS.items() if key != "q2")
    assert found["q2"].any()


def test_relative_error() -> None:
    one, two = np.asarray([3.0, 4.0]), np.asarray([[3.0], [4.5]])
    assert relative_error([two], [one]) == pytest.approx(0.1)
    assert relative_error([one * 0], [one * 0]) == 0.0
    assert relative_error([one], [one * 0]) == float("inf")
    assert relative_error([one[:1]], [one]) == float("inf")
    infinite = np.asarray([-np.inf, 1.0])
    assert relative_error([infinite], [infinite.copy()]) == 0.0
    assert relative_error([infinite], [one]) == float("inf")
    assert relative_error([np.asarray([np.nan, 1.0])], [one]) == float("inf")


def test_the_operation_proves_what_it_compares(build_model: Any, tmp_path: Path) -> None:
    sides = {}
    for side, text, weights in (("a", PLAIN, WEIGHTS), ("b", NHWC, NHWC_WEIGHTS)):
        path = tmp_path / side
        onnx.save(build_model(text, **weights), path)
        graph = tmp_path / f"{side}.json"
        graph.write_text(json.dumps(canonicalise(path).to_json()), encoding="utf-8")
        sides[side] = {"ref": f"file:{side}", "graph": str(graph), "model": str(path), "predictions": None}
    values = operation.run(sides, tmp_path, lambda *_: None).result
    assert values["architecture"]["verdict"] == "same_function"
    without = {side: given | {"model": None} for side, given in sides.items()}
    values = operation.run(without, tmp_path, lambda *_: None).result
    assert (values["architecture"]["verdict"], values["architecture"]["proof"]) == ("different", None)
