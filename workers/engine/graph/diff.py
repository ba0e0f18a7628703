"""The differences between two aligned graphs: the smallest list that explains them, causes without consequences."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import networkx as nx

from workers.engine.graph import roles
from workers.engine.graph.canonical import COMMUTATIVE, INPUT, SIZED

if TYPE_CHECKING:
    from workers.engine.graph.align import Alignment
    from workers.engine.graph.canonical import CanonicalGraph, Node

Difference = dict[str, Any]

_FOLLOWS_SHAPE = {"shape", "split", "sizes", "starts", "ends", "repeats", "indices", "expand_shape", "pads"}
"""Attributes of views, slices and paddings that follow the shape of what they read."""

_VIEW_OPS = {"Reshape", "Split", "Slice", "Resize", "Expand", "Tile", "Gather", "Pad"}


_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization")

_POOLS = ("MaxPool", "AveragePool", "LpPool")

WRITTEN = "padding_as_written"
"""Attribute of a pool: its rounding and padding before both were made explicit."""

_NO_DIFFERENCE = (WRITTEN, SIZED)
"""Attributes that are no difference by themselves."""


class Diff:
    """Collects the differences of one alignment."""

    def __init__(self, a: CanonicalGraph, b: CanonicalGraph, alignment: Alignment) -> None:
        self.a, self.b = a, b
        self.alignment = alignment
        self.to_b = dict(alignment.pairs)
        self.to_a = {right: left for left, right in alignment.pairs}
        self.form = (roles.output_form(a), roles.output_form(b))
        self.preparation = (roles.preprocessing(a), roles.preprocessing(b))
        self.classifiers = (roles.classifiers(a), roles.classifiers(b))
        self.found: list[tuple[float, Difference]] = []

    def differences(self) -> list[Difference]:
        """List the differences in the order of the dataflow; the same change in several places is written once.

        ``at`` holds the node ids (a, b) of each place, because names need not be unique.
        """
        for left, right in self.alignment.pairs:
            self._pair(self.a.nodes[left], self.b.nodes[right])
        for side, graph, left_over in ((0, self.a, self.alignment.a_only), (1, self.b, self.alignment.b_only)):
            for run in self._runs(graph, left_over, side):
                self._unpaired(run, side)
        if self.a.input_layout != self.b.input_layout:
            layouts = (self.a.input_layout, self.b.input_layout)
            self._add(_first_input(self.a), _first_input(self.b), "attribute", "layout", "interface", layouts)
        self._outputs()
        return _group([difference for _, difference in sorted(self.found, key=lambda item: item[0])])

    def _add(  # noqa: PLR0917  (a difference's own fields, in the order of the contract)
        self, a: Node | None, b: Node | None, kind: str, attribute: str | None, severity: str, values: tuple[Any, Any]
    ) -> None:
        # Ordered along a; what only b has follows the partner of what stands before it.
        place = float(a.id) if a is not None else self._place_of(b)
        self.found.append(
            (
                place,
                {
                    "kind": kind,
                    "attribute": attribute,
                    "severity": severity,
                    "a": _side(a, values[0]),
                    "b": _side(b, values[1]),
                    "at": [[(a.id if a is not None else None, b.id if b is not None else None)]],
                },
            )
        )

    def _place_of(self, b: Node | None) -> float:
        before = b.id if b is not None else 0
        while before > 0 and before not in self.to_a:
            before -= 1
        return self.to_a.get(before, 0) + 0.5

    def _pair(self, a: Node, b: Node) -> None:
        start = len(self.found)
        if INPUT in {a.op, b.op}:
            self._input_pair(a, b)
            return
        if a.op != b.op:
            self._add(a, b, "operator", None, self._severity_of_operator(a, b), (a.attributes, b.attributes))
        else:
            for name in sorted(set(a.attributes) | set(b.attributes)):
                self._attribute(a, b, name)
            self._weights(a, b)
        self._wiring(a, b)
        if len(self.found) == start and a.shape != b.shape and not self._inputs_differ(a, b):
            self._add(a, b, "shape", None, "structural", (list(a.shape), list(b.shape)))

    def _severity_of_operator(self, a: Node, b: Node) -> str:
        return "interface" if a.id in self.form[0] and b.id in self.form[1] else "structural"

    def _input_pair(self, a: Node, b: Node) -> None:
        if a.op != b.op:
            self._add(a, b, "operator", None, "structural", (list(a.shape), list(b.shape)))
        elif a.shape != b.shape:
            same_channels = len(a.shape) == len(b.shape) and a.shape[:2] == b.shape[:2]
            severity = "interface" if same_channels else "structural"
            self._add(a, b, "shape", "input_shape", severity, (list(a.shape), list(b.shape)))

    def _attribute(self, a: Node, b: Node, name: str) -> None:
        values = a.attributes.get(name), b.attributes.get(name)
        if name in _NO_DIFFERENCE or values[0] == values[1] or self._is_consequence(a, b, name):
            return
        self._add(a, b, "attribute", name, self._severity_of_attribute(a, b, name, values), values)

    def _severity_of_attribute(self, a: Node, b: Node, name: str, values: tuple[Any, Any]) -> str:
        if name == "epsilon":
            return "numeric"
        if name == "batch_norm":
            return "cosmetic"
        if a.id in self.form[0] and b.id in self.form[1]:
            return "interface"
        if a.id in self.preparation[0] and b.id in self.preparation[1]:
            return "interface"
        last = a.id in self.classifiers[0] and b.id in self.classifiers[1]
        if last and name in ("output_features", "output_channels") and None not in values:
            # One class more is a background class in front; any other number is another task.
            return "interface" if abs(values[0] - values[1]) == 1 else "structural"
        return "structural"

    def _is_consequence(self, a: Node, b: Node, name: str) -> bool:
        """Whether this attribute differs only because of something that is reported elsewhere."""
        left, right = a.attributes, b.attributes
        if name == "epsilon":
            return left.get(name) is None or right.get(name) is None  # the missing batch-norm is reported itself
        if name == "batch_norm":
            return left.get("bias") != right.get("bias")
        if name in ("group", "output_channels"):
            return self._depthwise(a, b) or (name == "group" and self._same_group_width(a, b))
        if name in ("pads", "ceil_mode"):
            return self._padding_follows(a, b, name)
        return name in _FOLLOWS_SHAPE and a.op in _VIEW_OPS and self._inputs_differ(a, b)

    def _padding_follows(self, a: Node, b: Node, name: str) -> bool:
        """Padding or rounding that follows the window, the size of what is read, or a Pad of one side alone."""
        left, right = a.attributes, b.attributes
        if name == "pads" and any(left.get(key) != right.get(key) for key in ("kernel_shape", "dilations")):
            return _grows_with_window(left, right)
        if a.op not in _POOLS:
            return a.op in _VIEW_OPS and self._inputs_differ(a, b)
        if self._reads_new_pad(a, 0) or self._reads_new_pad(b, 1):
            return True
        # The rows that rounding adds depend on the size of what is read, and on this node's own stride.
        sized = self._inputs_differ(a, b) or left.get("strides") != right.get("strides")
        return sized and left.get(WRITTEN) == right.get(WRITTEN)

    def _depthwise(self, a: Node, b: Node) -> bool:
        """Both convolve every channel by itself, with as many filters a channel; only the channels differ upstream."""
        sizes = []
        for graph, node in ((self.a, a), (self.b, b)):
            channels = graph.nodes[node.inputs[0][0]].shape[1] if node.inputs else 0
            if node.op != "Conv" or channels < 2 or node.attributes.get("group") != channels:  # noqa: PLR2004
                return False
            sizes.append(node.attributes["output_channels"] / channels)
        return sizes[0] == sizes[1]

    def _reads_new_pad(self, node: Node, side: int) -> bool:
        """A Pad that only this side has stands before the pool; it is reported itself."""
        graph, partner = ((self.a, self.to_b), (self.b, self.to_a))[side]
        return any(graph.nodes[source].op == "Pad" and source not in partner for source, _ in node.inputs)

    def _same_group_width(self, a: Node, b: Node) -> bool:
        """Both convolve groups of as many channels; how many groups that makes follows from the channels upstream."""
        channels = [graph.nodes[node.inputs[0][0]].shape[1] for graph, node in ((self.a, a), (self.b, b))]
        groups = [node.attributes.get("group", 1) for node in (a, b)]
        return channels[0] != channels[1] and channels[0] * groups[1] == channels[1] * groups[0] and min(groups) > 1

    def _weights(self, a: Node, b: Node) -> None:
        """Weights of element-wise operators: their number, and their shape where the inputs agree."""
        if a.op in ("Conv", "ConvTranspose", "Gemm") or a.weights == b.weights:
            return
        if len(a.weights) == len(b.weights) and self._inputs_differ(a, b):
            return
        values = [list(shape) for shape in a.weights], [list(shape) for shape in b.weights]
        prepared = a.id in self.preparation[0] and b.id in self.preparation[1]
        self._add(a, b, "shape", "weights", "interface" if prepared else "structural", values)

    def _inputs_differ(self, a: Node, b: Node) -> bool:
        shapes = [
            [graph.nodes[source].shape for source, _ in node.inputs] for graph, node in ((self.a, a), (self.b, b))
        ]
        return shapes[0] != shapes[1]

    def _wiring(self, a: Node, b: Node) -> None:
        left, right = ([self._origins(edge, side) for edge in node.inputs] for side, node in ((0, a), (1, b)))
        direct = all(bypassed is False for _, bypassed in (*left, *right))
        origins_a, origins_b = [origin for origin, _ in left], [origin for origin, _ in right]
        if direct:
            if a.op in COMMUTATIVE or b.op in COMMUTATIVE:
                same = Counter(origins_a) == Counter(origins_b)
            else:
                same = origins_a == origins_b
        else:
            # Around an inserted or removed node, what is read must still come from the same places.
            union_a, union_b = frozenset().union(*origins_a), frozenset().union(*origins_b)
            same = union_a <= union_b or union_b <= union_a
        if not same:
            self._add(a, b, "rewired", None, "structural", (self._names(self.a, a), self._names(self.b, b)))

    def _origins(self, edge: tuple[int, int], side: int) -> tuple[frozenset[tuple[int, int]], bool]:
        """Where an edge comes from, as paired nodes named by their id in b; and whether unpaired nodes lie between."""
        graph, partner = ((self.a, self.to_b), (self.b, self.to_a))[side]
        pending, found, bypassed, seen = [edge], set(), False, set()
        while pending:
            source, index = pending.pop()
            if source in seen:
                continue
            if source in partner:
                found.add((partner[source] if side == 0 else source, index))
                continue
            seen.add(source)
            bypassed = True
            pending.extend(graph.nodes[source].inputs)
        return frozenset(found), bypassed

    @staticmethod
    def _names(graph: CanonicalGraph, node: Node) -> list[str]:
        return [graph.nodes[source].source for source, _ in node.inputs]

    def _severity_of_unpaired(self, node: Node, side: int) -> str:
        interface = node.id in self.form[side] or node.id in self.preparation[side] or node.op == INPUT
        return "interface" if interface else "structural"

    def _runs(self, graph: CanonicalGraph, left_over: tuple[int, ...], side: int) -> list[list[Node]]:
        """Unpaired nodes that feed each other, together: a layer or a block that one graph has and the other has not.

        What belongs to the interface stays by itself, because each of its nodes has a meaning of its own.
        """
        severities = {item: self._severity_of_unpaired(graph.nodes[item], side) for item in left_over}
        links = nx.Graph()
        links.add_nodes_from(left_over)
        for item in left_over:
            for source, _ in graph.nodes[item].inputs:
                if severities.get(source) == severities[item] == "structural":
                    links.add_edge(source, item)
        return [[graph.nodes[item] for item in sorted(run)] for run in nx.connected_components(links)]

    def _unpaired(self, run: list[Node], side: int) -> None:
        """Report a run by its first layer with weights, or else its first node; ``run`` lists all of several."""
        node = next((item for item in run if item.op in _LAYERS), run[0])
        severity = self._severity_of_unpaired(node, side)
        if side == 0:
            self._add(node, None, "removed", None, severity, (node.attributes, None))
        else:
            self._add(None, node, "inserted", None, severity, (None, node.attributes))
        if len(run) > 1:
            self.found[-1][1]["run"] = [{"node": item.source, "op": item.op} for item in run]
            self.found[-1][1]["at"] = [[(item.id, None) if side == 0 else (None, item.id) for item in run]]

    def _outputs(self) -> None:
        """Outputs that come from nodes which do not correspond, though every node's own wiring agrees."""
        ends = [[self._origins(edge, side)[0] for edge in graph.outputs] for side, graph in ((0, self.a), (1, self.b))]
        if len(ends[0]) != len(ends[1]) or any(not left & right for left, right in zip(*ends, strict=True)):
            nodes = [graph.nodes[graph.outputs[0][0]] for graph in (self.a, self.b)]
            names = [[graph.nodes[source].source for source, _ in graph.outputs] for graph in (self.a, self.b)]
            self._add(nodes[0], nodes[1], "rewired", "outputs", "structural", (names[0], names[1]))


def _first_input(graph: CanonicalGraph) -> Node | None:
    return next((node for node in graph.nodes if node.op == INPUT), None)


def _side(node: Node | None, value: Any) -> dict[str, Any] | None:
    return None if node is None else {"node": node.source, "op": node.op, "value": value}


def _grows_with_window(left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Whether the padding differs by what keeps the window where it was: half its growth on every side."""
    reaches = []
    for attributes in (left, right):
        kernel = attributes.get("kernel_shape") or []
        dilations = attributes.get("dilations") or [1] * len(kernel)
        reaches.append([(size - 1) * dilation for size, dilation in zip(kernel, dilations, strict=True)])
    pads = [attributes.get("pads") or [0] * (2 * len(reaches[0])) for attributes in (left, right)]
    if len(reaches[0]) != len(reaches[1]) or len(pads[0]) != len(pads[1]):
        return False
    growth = [after - before for before, after in zip(*reaches, strict=True)]
    return all(
        2 * (after - before) == growth[index % len(growth)]
        for index, (before, after) in enumerate(zip(*pads, strict=True))
    )


def _group(differences: list[Difference]) -> list[Difference]:
    """Write equal differences once, with ``repeats`` (places in all) and the other places in ``also``."""
    grouped: list[Difference] = []
    first: dict[str, Difference] = {}
    for difference in differences:
        # One epsilon is set for all batch-norms, whether they could be folded into a product or not.
        operator = difference["attribute"] != "epsilon"
        sides = [difference[side] and (operator and difference[side]["op"], difference[side]["value"]) for side in "ab"]
        if difference["kind"] == "rewired":  # each has its own names as values
            grouped.append(difference)
            continue
        run = [item["op"] for item in difference.get("run", ())]
        key = repr([difference["kind"], difference["attribute"], difference["severity"], *sides, run])
        if key in first:
            first[key]["repeats"] += 1
            first[key]["at"] += difference["at"]
            first[key]["also"].append({side: difference[side] and difference[side]["node"] for side in "ab"})
        else:
            first[key] = {**difference, "repeats": 1, "also": []}
            grouped.append(first[key])
    return grouped
