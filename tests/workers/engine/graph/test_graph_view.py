"""Two graphs side by side: every layer once, aligned ones together, short, and safe to show."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.engine.graph.align import Alignment, align
from workers.engine.graph.canonical import CanonicalGraph, Node, canonicalise
from workers.engine.graph.compare import compare
from workers.engine.graph.export import structure_of
from workers.engine.graph.view import drawing, words
from workers.engine.graph.view.joint import MOST_PARTS, Sheet, sheet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"
TOTALS = dict.fromkeys(("parameters", "buffers", "flops", "macs", "activations", "nodes"), 0)
HOSTILE = '</text><script>alert(1)</script><x y="&"\'\x1b[31m\u202e'


def graph(*layers: tuple[str, tuple[int, ...]], outputs: tuple[int, ...] | None = None, **attributes: Any) -> Any:
    """A graph of (operator, inputs); the first is the input."""
    nodes = tuple(
        Node(index, op, dict(attributes) if op == "Conv" else {}, tuple((source, 0) for source in inputs), (),
             (1, 4, 8, 8), f"layer{index}")
        for index, (op, inputs) in enumerate(layers)
    )  # fmt: skip
    ends = (len(nodes) - 1,) if outputs is None else outputs
    return CanonicalGraph(nodes, tuple((end, 0) for end in ends), dict(TOTALS))


def chain(length: int, op: Callable[[int], str]) -> CanonicalGraph:
    return graph(("Input", ()), *((op(index), (index,)) for index in range(length)))


def parsed(path: Path) -> ET.Element:
    return ET.parse(path).getroot()  # noqa: S314  (written by the code under test)


def renamed(found: CanonicalGraph, name: str) -> CanonicalGraph:
    return dataclasses.replace(found, nodes=tuple(dataclasses.replace(node, source=name) for node in found.nodes))


def edges_of(found: CanonicalGraph) -> list[tuple[int, int]]:
    return [(source, node.id) for node in found.nodes for source, _ in node.inputs]


def part_of(found: Sheet, side: str) -> dict[int, int]:
    """The part of each node; asserts that none is there twice."""
    nodes = [
        (node.id, index)
        for index, part in enumerate(found.parts)
        for slot in part.slots
        if (node := slot.a if side == "a" else slot.b) is not None
    ]
    assert len(dict(nodes)) == len(nodes)
    return dict(nodes)


@st.composite
def pairs(draw: Any) -> tuple[CanonicalGraph, CanonicalGraph]:
    """A random graph of one output, and the same with some layers of another operator."""
    rng = draw(st.randoms(use_true_random=False))
    layers: list[tuple[str, tuple[int, ...]]] = [("Input", ())]
    for index in range(1, draw(st.integers(2, 60))):
        inputs = {index - 1, *(rng.randrange(index) for _ in range(rng.choice((0, 0, 0, 1))))}
        layers.append((rng.choice(("Conv", "Relu", "Add", "Concat", "MaxPool")), tuple(sorted(inputs))))
    other = list(layers)
    for _ in range(draw(st.integers(0, 6))):
        place = rng.randrange(len(layers))
        other[place] = (rng.choice(("Sigmoid", "Softmax", "Conv")), other[place][1]) if place else other[place]
    return graph(*layers), graph(*other)


@given(pairs(), st.integers(0, 2))
@settings(max_examples=150, deadline=None)
def test_every_layer_and_every_edge_is_there_once_and_folding_makes_no_cycle(
    both: tuple[CanonicalGraph, CanonicalGraph], spread: int
) -> None:
    a, b = both
    alignment = align(a, b)
    places = [[[(left, right)]] for left, right in alignment.pairs if a.nodes[left].op != b.nodes[right].op]
    places += [[[(item, None)]] for item in alignment.a_only] + [[[(None, item)]] for item in alignment.b_only]
    found = sheet(a, b, alignment, places[spread:], range(len(places[spread:])))
    for side, whole in (("a", a), ("b", b)):
        part = part_of(found, side)
        assert set(part) == set(range(len(whole.nodes)))
        for source, reader in edges_of(whole):
            edge = part[source], part[reader]
            assert edge[0] == edge[1] or side in found.edges[edge]
    for left, right in alignment.pairs:
        assert part_of(found, "a")[left] == part_of(found, "b")[right]
    to_a = {right: left for left, right in alignment.pairs}
    joined = nx.DiGraph(edges_of(a))
    joined.add_edges_from(tuple(to_a.get(item, f"b{item}") for item in edge) for edge in edges_of(b))
    if nx.is_directed_acyclic_graph(joined):
        assert all(source < reader for source, reader in found.edges)


def test_graphs_that_contradict_each_others_order_are_drawn_all_the_same(tmp_path: Path) -> None:
    a = graph(("Input", ()), ("Relu", (0,)), ("Sigmoid", (1,)), ("Softmax", (2,)))
    b = graph(("Input", ()), ("Sigmoid", (0,)), ("Relu", (1,)), ("Softmax", (2,)))
    crossing = Alignment(((0, 0), (1, 2), (2, 1), (3, 3)), (), ())
    found = sheet(a, b, crossing, [[[(1, 2)]], [[(2, 1)]]], [0, 1])
    assert any(source > reader for source, reader in found.edges)
    answer = compare(a, b)
    assert drawing.write(tmp_path / "x.svg", found, answer, "a", "b") is None
    parsed(tmp_path / "x.svg")


def test_alexnet_beside_the_onnx_zoos(light: Path, tmp_path: Path) -> None:
    import torchvision

    a = structure_of(torchvision.models.alexnet(weights=None), (1, 3, 224, 224))
    b = canonicalise(light / "light_bvlc_alexnet.onnx")
    found = compare(a, b, None, (tmp_path / "d.svg", "torchvision:alexnet@none", "onnx:light_bvlc_alexnet@placeholder"))
    rows = found["aligned"]["rows"]
    assert [(row["kind"], (row["a"] or row["b"]).get("text")) for row in rows[:5]] == [
        ("equal", "Input 3×224×224"),
        ("different", "Conv 11×11, 64 channels, stride 4, padding 2"),
        ("equal", "Relu"),
        ("only_b", "LRN alpha 0.0001, beta 0.75, size 5, offset 1"),
        ("equal", "MaxPool 3×3, stride 2"),
    ]
    assert rows[1]["b"] == {"node": "n0", "op": "Conv", "text": "Conv 11×11, 96 channels, stride 4",
                            "shape": [1, 96, 54, 54]}  # fmt: skip
    said = [found["differences"][entry["index"]]["text"] for entry in rows[1]["differences"]]
    assert said == ["output channels 64 → 96", "pads 2 → 0"]
    folded = next(row for row in rows if row["kind"] == "folded")
    assert (folded["a"], folded["equal"]) == ({"Gemm": 2, "Relu": 2}, 4)
    assert found["aligned"]["left_out"] == 0
    texts = [element.text for element in parsed(tmp_path / "d.svg").iter(f"{SVG}text")]
    assert texts.count("3: LRN only in B") == 2
    assert texts.count("1: output channels 64 → 96") == 2  # both values stand on both sides
    assert texts.count("not in A") == 3
    assert "4 equal layers" in texts


def test_two_deep_networks_stay_short(tmp_path: Path) -> None:
    import torchvision

    a = structure_of(torchvision.models.resnet152(weights=None), (1, 3, 224, 224))
    changed = [
        dataclasses.replace(node, attributes=node.attributes | {"epsilon": 0.001})
        if "epsilon" in node.attributes
        else node
        for node in a.nodes
    ]
    place = next(node.id for node in changed if node.source == "layer3.20.conv2")
    changed[place] = dataclasses.replace(
        changed[place], attributes=changed[place].attributes | {"dilations": [2, 2], "pads": [2, 2, 2, 2]}
    )
    b = dataclasses.replace(a, nodes=tuple(changed))
    found = compare(a, b, None, (tmp_path / "d.svg", "a", "b"))
    assert [item["text"] for item in found["differences"]] == ["dilations 1×1 → 2×2", "epsilon 1e-05 → 0.001"]
    rows = found["aligned"]["rows"]
    assert len(rows) <= 12
    shown = next(row for row in rows if row["kind"] == "different" and row["differences"][0]["index"] == 0)
    assert shown["a"]["node"] == "layer3.20.conv2"
    # The 155 places of the epsilon are all accounted for.
    places = [entry["places"] for row in rows for entry in row["differences"] if entry["index"] == 1]
    assert sum(places) == found["differences"][1]["repeats"] == 155
    layers = [sum(row["a"].values()) if row["kind"] == "folded" else 1 for row in rows]
    assert sum(layers) == len(a.nodes)


def test_an_equal_pair_is_three_boxes(tmp_path: Path) -> None:
    a = chain(40, lambda index: ("Conv", "Relu")[index % 2])
    found = compare(a, a, None, (tmp_path / "d.svg", "a", "b"))
    assert [row["kind"] for row in found["aligned"]["rows"]] == ["equal", "folded", "equal"]
    assert "39 equal layers" in (tmp_path / "d.svg").read_text()


def test_names_of_strangers_are_text_and_nothing_else(tmp_path: Path) -> None:
    a = renamed(chain(6, lambda index: ("Conv", "Relu")[index % 2]), HOSTILE)
    b = renamed(chain(7, lambda index: ("Conv", "Tanh")[index % 2]), HOSTILE)
    found = compare(a, b, None, (tmp_path / "d.svg", HOSTILE, HOSTILE))
    written = (tmp_path / "d.svg").read_text()
    assert all(line.isprintable() for line in written.splitlines())
    tree = parsed(tmp_path / "d.svg")
    known = {"svg", "title", "style", "defs", "marker", "path", "rect", "g", "text", "line", "circle"}
    assert {element.tag.removeprefix(SVG) for element in tree.iter()} <= known
    assert not any(name.startswith("on") or "href" in name for element in tree.iter() for name in element.attrib)
    assert any("</text><script>" in (element.text or "") for element in tree.iter(f"{SVG}title"))
    assert "\x1b" not in found["aligned"]["rows"][1]["a"]["node"]


def test_severity_is_told_by_line_symbol_and_word(tmp_path: Path) -> None:
    a, b = (
        graph(("Input", ()), *(("Conv", (index,)) for index in range(5)), epsilon=epsilon) for epsilon in (1e-5, 1e-3)
    )
    compare(a, b, None, (tmp_path / "d.svg", "a", "b"))
    text = (tmp_path / "d.svg").read_text()
    assert "numeric (1)" in text
    assert 'stroke="#7a6200" stroke-width="2" stroke-dasharray="2 3"' in text


def test_five_thousand_layers_with_differences_everywhere_are_bounded_in_size_and_time(tmp_path: Path) -> None:
    ops = ("Conv", "Relu", "BatchNormalization", "Add")
    a = chain(5000, lambda index: ops[index % 4])
    b = chain(5000, lambda index: "LRN" if index % 10 == 3 else ops[index % 4])
    alignment = align(a, b)
    places = [[[(left, right)]] for left, right in alignment.pairs if a.nodes[left].op != b.nodes[right].op]
    places += [[[(item, None)]] for item in alignment.a_only] + [[[(None, item)]] for item in alignment.b_only]
    assert len(places) > 400
    answer = compare(a, b)
    started = time.process_time()
    found = sheet(a, b, alignment, places, range(len(places)))
    ungrouped = answer | {"differences": [answer["differences"][0]] * len(places)}
    reason = drawing.write(tmp_path / "d.svg", found, ungrouped, "a", "b")
    assert time.process_time() - started < 2.0
    assert reason is None
    assert len(found.parts) <= MOST_PARTS
    assert (tmp_path / "d.svg").stat().st_size < 1_000_000
    assert len(answer["aligned"]["rows"]) <= answer["aligned"]["most"]


def test_what_cannot_be_folded_is_left_out_with_its_reason(tmp_path: Path) -> None:
    branches = 300
    layers: list[tuple[str, tuple[int, ...]]] = [("Input", ())]
    for branch in range(branches):
        layers += [("Relu", (0,)), ("Tanh", (1 + 2 * branch,))]
    ends = tuple(range(2, 2 * branches + 1, 2))
    a, b = (graph(*layers, (last, ends), (last, (2 * branches + 1,))) for last in ("Concat", "Max"))
    found = compare(a, b, None, (tmp_path / "d.svg", "a", "b"))
    assert f"up to {MOST_PARTS} are drawn" in found["diagram"]["left_out"]
    assert not (tmp_path / "d.svg").exists()
    assert len(found["aligned"]["rows"]) <= found["aligned"]["most"]


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"kernel_shape": [3, 3], "strides": [2, 2], "output_channels": 64}, "Conv 3×3, 64 channels, stride 2"),
        ({"kernel_shape": [1, 7], "strides": [1, 2], "pads": [0, 3, 0, 3]}, "Conv 1×7, stride 1×2, padding 0,3,0,3"),
        ({"kernel_shape": [3, 3], "group": 32, "bias": True, "epsilon": 1e-5}, "Conv 3×3, 32 groups"),
        ({}, "Conv"),
    ],
)  # fmt: skip
def test_a_layer_in_words(attributes: dict[str, Any], text: str) -> None:
    assert words.node_text(Node(1, "Conv", attributes, (), (), (1, 8, 8, 8), "c")) == text
