"""Single changes are found once, at the right place, with the right severity."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from workers.engine.graph.align import align
from workers.engine.graph.canonical import CanonicalGraph, Node, canonicalise
from workers.engine.graph.compare import compare

BLOCK = """
  c{n} = Conv<pads=[1,1,1,1]>({x}, k{n}) r{n} = Relu(c{n}) d{n} = Conv<pads=[1,1,1,1]>(r{n}, l{n}) s{n} = Add(d{n}, {x})
  t{n} = Relu(s{n})"""


def w(*shape: int) -> np.ndarray:
    return np.random.default_rng([5, *shape]).normal(size=shape).astype(np.float32)


def residual(tail: str = "y = Gemm<transB=1>(f, fc, fb)", classes: int = 10) -> tuple[str, dict[str, Any]]:
    body = "e = Conv<pads=[1,1,1,1]>(x, stem) t0 = Relu(e)"
    weights: dict[str, Any] = {"stem": w(8, 3, 3, 3), "fc": w(classes, 8), "fb": w(classes)}
    for number in range(1, 5):
        body += BLOCK.format(n=number, x=f"t{number - 1}")
        weights |= {f"k{number}": w(8, 8, 3, 3), f"l{number}": w(8, 8, 3, 3)}
    text = (
        f"g (float[1,3,16,16] x) => (float[1,{classes}] y) {{ {body} p = GlobalAveragePool(t4) f = Flatten(p) {tail} }}"
    )
    return text, weights


@pytest.fixture
def compared(build_model: Any, save_model: Any) -> Any:
    def differences(text: str, weights: dict[str, Any]) -> list[dict[str, Any]]:
        base, base_weights = residual()
        a = canonicalise(save_model(build_model(base, **base_weights), "a.onnx"))
        b = canonicalise(save_model(build_model(text, **weights), "b.onnx"))
        forward, backward = compare(a, b)["differences"], compare(b, a)["differences"]
        assert len(forward) == len(backward)  # the same differences seen from either side
        return forward

    return differences


def changed(before: str, after: str) -> tuple[str, dict[str, Any]]:
    text, weights = residual()
    assert text.count(before) == 1
    return text.replace(before, after), weights


def only(found: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(found) == 1, found
    return found[0]


def test_unchanged(compared: Any) -> None:
    assert compared(*residual()) == []


def test_attribute(compared: Any) -> None:
    difference = only(
        compared(*changed("Conv<pads=[1,1,1,1]>(r2, l2)", "Conv<pads=[2,2,2,2], dilations=[2,2]>(r2, l2)"))
    )
    assert difference == {
        "kind": "attribute",
        "attribute": "dilations",
        "severity": "structural",
        "a": {"node": "d2", "op": "Conv", "value": [1, 1]},
        "b": {"node": "d2", "op": "Conv", "value": [2, 2]},
        "repeats": 1,
        "also": [],
        "text": "dilations 1×1 → 2×2",
    }


def test_operator(compared: Any) -> None:
    difference = only(compared(*changed("r3 = Relu(c3)", "r3 = Sigmoid(c3)")))
    assert (difference["kind"], difference["severity"]) == ("operator", "structural")
    assert (difference["a"]["op"], difference["b"]["op"]) == ("Relu", "Sigmoid")


def test_inserted_and_removed(compared: Any) -> None:
    difference = only(compared(*changed("r3 = Relu(c3)", "z = LRN<size=5>(c3) r3 = Relu(z)")))
    assert (difference["kind"], difference["a"], difference["b"]["op"]) == ("inserted", None, "LRN")
    difference = only(compared(*changed("r3 = Relu(c3)", "r3 = Identity(c3)")))
    assert (difference["kind"], difference["a"]["op"], difference["b"]) == ("removed", "Relu", None)


def test_rewired_skip_connection(compared: Any) -> None:
    difference = only(compared(*changed("s3 = Add(d3, t2)", "s3 = Add(d3, t1)")))
    assert (difference["kind"], difference["severity"]) == ("rewired", "structural")
    assert difference["a"]["op"] == "Add"


def test_wider_layer_is_one_difference_without_its_consequences(compared: Any) -> None:
    text, weights = residual()
    weights["k2"], weights["l2"] = w(16, 8, 3, 3), w(8, 16, 3, 3)
    difference = only(compared(text, weights))
    assert (difference["attribute"], difference["a"]["value"], difference["b"]["value"]) == ("output_channels", 8, 16)


def test_stride_changes_every_later_shape_and_is_one_difference(compared: Any) -> None:
    difference = only(
        compared(*changed("Conv<pads=[1,1,1,1]>(x, stem)", "Conv<pads=[1,1,1,1], strides=[2,2]>(x, stem)"))
    )
    assert difference["attribute"] == "strides"


def test_probabilities_and_background_class_are_interface(compared: Any) -> None:
    difference = only(compared(*residual("z = Gemm<transB=1>(f, fc, fb) y = Softmax(z)")))
    assert (difference["kind"], difference["b"]["op"], difference["severity"]) == ("inserted", "Softmax", "interface")
    difference = only(compared(*residual(classes=11)))
    assert (difference["attribute"], difference["severity"]) == ("output_features", "interface")
    difference = only(compared(*residual(classes=100)))
    assert (difference["attribute"], difference["severity"]) == ("output_features", "structural")


def test_preprocessing_and_input_size_are_interface(compared: Any) -> None:
    text, weights = changed("e = Conv<pads=[1,1,1,1]>(x, stem)", "n = Mul(x, k) e = Conv<pads=[1,1,1,1]>(n, stem)")
    difference = only(compared(text, weights | {"k": np.float32(1 / 255)}))
    assert (difference["kind"], difference["b"]["op"], difference["severity"]) == ("inserted", "Mul", "interface")
    difference = only(compared(*changed("[1,3,16,16]", "[1,3,24,24]")))
    assert (difference["attribute"], difference["severity"]) == ("input_shape", "interface")


def test_larger_kernel_with_its_padding_is_one_difference(compared: Any) -> None:
    text, weights = changed("Conv<pads=[1,1,1,1]>(r1, l1)", "Conv<pads=[2,2,2,2]>(r1, l1)")
    weights["l1"] = w(8, 8, 5, 5)
    difference = only(compared(text, weights))
    assert (difference["attribute"], difference["b"]["value"]) == ("kernel_shape", [5, 5])


def test_layer_of_several_nodes_is_one_difference(compared: Any) -> None:
    text, weights = changed("d2 = Conv", "j = Conv<pads=[1,1,1,1]>(r2, k2) u = Relu(j) d2 = Conv")
    difference = only(compared(text.replace("(r2, l2)", "(u, l2)"), weights))
    assert (difference["kind"], difference["b"]["op"]) == ("inserted", "Conv")
    assert {item["op"] for item in difference["run"]} == {"Conv", "Relu"}


def test_swapped_branches_are_one_difference_at_the_concatenation(build_model: Any, save_model: Any) -> None:
    text = """g (float[1,3,8,8] x) => (float[1,8,8,8] y) {{
      a = Conv(x, k) b = Conv<pads=[1,1,1,1]>(x, l) p = Relu(a) q = Relu(b)
      c = Concat<axis=1>({order}) y = Relu(c) }}"""
    weights = {"k": w(4, 3, 1, 1), "l": w(4, 3, 3, 3)}
    a, b = (
        canonicalise(save_model(build_model(text.format(order=order), **weights), "m.onnx"))
        for order in ("p, q", "q, p")
    )
    difference = only(compare(a, b)["differences"])
    assert (difference["kind"], difference["a"]["node"]) == ("rewired", "c")


def test_silu_is_one_operator_to_a_reader(compared: Any) -> None:
    difference = only(compared(*changed("r3 = Relu(c3)", "v = Sigmoid(c3) r3 = Mul(c3, v)")))
    assert (difference["kind"], difference["a"]["op"], difference["b"]["op"]) == ("operator", "Relu", "Swish")


POOLS = """g (float[1,3,31,31] x) => (float[1,3,{size},{size}] y) {{
  a = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode={first}>(x) r = Relu(a)
  s = Conv<strides=[{stride},{stride}]>(r, k)
  y = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode={second}>(s) }}"""


@pytest.mark.parametrize(
    ("change", "node"),
    [
        # The size changes, and with it the rows that the later pool rounds up; only the cause is reported.
        ({"stride": 2, "size": 4}, "s"),
        # A pool that rounds differently is reported itself.
        ({"second": 0, "size": 7}, "y"),
    ],
)
def test_rounding_of_pools(build_model: Any, save_model: Any, change: dict[str, int], node: str) -> None:
    base = {"first": 0, "second": 1, "stride": 1, "size": 8}
    a, b = (
        canonicalise(save_model(build_model(POOLS.format(**numbers), k=w(3, 3, 1, 1)), "m.onnx"))
        for numbers in (base, base | change)
    )
    assert only(compare(a, b)["differences"])["a"]["node"] == node


def chain(length: int, odd: frozenset[int] = frozenset()) -> CanonicalGraph:
    nodes = [Node(0, "Input", {"index": 0}, (), (), (1, 8, 4, 4), "x")]
    for number in range(1, length + 1):
        op = "Relu" if number % 2 else "Conv"
        attributes = {"output_channels": 8 + 8 * (number in odd)} if op == "Conv" else {}
        nodes.append(Node(number, op, attributes, ((number - 1, 0),), (), (1, 8, 4, 4), f"n{number}"))
    counts = dict.fromkeys(("parameters", "buffers", "macs", "flops", "activations", "nodes"), 0)
    return CanonicalGraph(tuple(nodes), ((length, 0),), counts)


def test_five_thousand_nodes_in_one_alignment() -> None:
    odd = frozenset({10, 2500, 4990})
    a, b = chain(5000), chain(5000, odd)
    alignment = align(a, b)
    assert not alignment.a_only
    assert not alignment.b_only
    assert all(left == right for left, right in alignment.pairs)
    (found,) = compare(a, b)["differences"]
    assert [found["a"]["node"], *(other["a"] for other in found["also"])] == ["n10", "n2500", "n4990"]
    assert found["repeats"] == 3


def test_five_thousand_nodes_that_have_little_in_common_are_compared_in_bounded_time() -> None:
    a = chain(5000)
    nodes = tuple(
        Node(
            node.id,
            {"Relu": "LRN", "Conv": "Concat"}.get(node.op, node.op),
            {},
            node.inputs,
            (),
            node.shape,
            node.source,
        )
        for node in a.nodes
    )
    b = CanonicalGraph(nodes, a.outputs, a.counts)
    started = time.process_time()
    found = compare(a, b)
    # Two seconds are the promise; a search over all pairs of leftover nodes would take minutes.
    assert time.process_time() - started < 20
    # Whole stretches without a counterpart are one difference each, with their nodes listed.
    assert sum(len(item["run"]) for item in found["differences"]) == 10_000
