"""Two aligned graphs as one: what corresponds stands in one slot, what does not has an empty place opposite.

Layers far from any difference are folded into stretches, so that the view of two long networks stays short.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.engine.graph.canonical import INPUT

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from workers.engine.graph.align import Alignment
    from workers.engine.graph.canonical import CanonicalGraph, Node

Places = list[list[tuple[int | None, int | None]]]
"""Where one difference is: for each of its places the node ids (a, b) that it is about."""

Mark = tuple[int, int]
"""A difference's index, and the number of one of its places."""

MOST_PARTS = 160
"""Parts that a view has at most."""

_ATTEMPTS = ((40, 1), (40, 0), (20, 0), (8, 0))
"""Layers with a difference to show one by one, and how far around them; tried in turn until the view is short."""

_LONGEST_RUN = 12
"""Layers shown of one block that only one side has."""

_NEAR = 3
"""Inputs, and readers, of a differing layer that are shown around it."""

_ENDS = 4
"""Inputs, and outputs, of the graphs that are always shown."""


@dataclass(frozen=True)
class Slot:
    """One node of each graph that correspond, or one node and None."""

    a: Node | None
    b: Node | None


@dataclass(frozen=True)
class Part:
    """One slot, or a stretch of several that are folded into one place.

    ``marks`` are the places of differences that are here, ``equal`` counts the slots with both nodes and no difference.
    """

    slots: tuple[Slot, ...]
    marks: frozenset[Mark]
    equal: int

    @property
    def differences(self) -> Counter[int]:
        """How many places of each difference are here, by its index in the list."""
        return Counter(index for index, _ in self.marks)

    @property
    def folded(self) -> bool:
        """Whether this is a stretch."""
        return len(self.slots) > 1


@dataclass(frozen=True)
class Sheet:
    """Parts in an order that follows the dataflow of both graphs, and the edges between them.

    ``edges`` maps (from, to) to the sides, of ``ab``, that have it. An edge to an earlier part exists where the two
    graphs contradict each other's order.
    """

    parts: tuple[Part, ...]
    edges: dict[tuple[int, int], str]


def sheet(
    a: CanonicalGraph, b: CanonicalGraph, alignment: Alignment, places: Sequence[Places], grave: Collection[int]
) -> Sheet:
    """Join two aligned graphs around their differences.

    ``places`` are those of each difference, the worst first; ``grave`` are the indices of those whose repeats are shown
    too while there is room. Others are shown at their first place, and counted in the stretches.
    """
    joint = _Joint(a, b, alignment)
    marks = joint.marks(places)
    for most, reach in _ATTEMPTS:
        found = joint.folded(joint.shown(places, grave, most, reach), marks)
        if len(found.parts) <= MOST_PARTS:
            break
    return found


class _Joint:
    """The union of two aligned graphs; slots are numbered in an order that follows the dataflow."""

    def __init__(self, a: CanonicalGraph, b: CanonicalGraph, alignment: Alignment) -> None:
        to_b, to_a = dict(alignment.pairs), {right: left for left, right in alignment.pairs}
        slots = [Slot(node, b.nodes[to_b[node.id]] if node.id in to_b else None) for node in a.nodes]
        wanted = [float(node.id) for node in a.nodes]
        before = 0.0
        for node in b.nodes:
            if node.id in to_a:
                before = to_a[node.id] + 0.5
            else:
                slots.append(Slot(None, node))
                wanted.append(before)
        of_a = {slot.a.id: index for index, slot in enumerate(slots) if slot.a is not None}
        of_b = {slot.b.id: index for index, slot in enumerate(slots) if slot.b is not None}
        edges = _edges(a, of_a, "a", {})
        edges = _edges(b, of_b, "b", edges)
        order = _order(wanted, edges)
        at = {old: new for new, old in enumerate(order)}
        self.slots = [slots[old] for old in order]
        self.edges = {(at[source], at[reader]): sides for (source, reader), sides in edges.items()}
        self.of_a = {node: at[index] for node, index in of_a.items()}
        self.of_b = {node: at[index] for node, index in of_b.items()}
        self.sources: list[list[int]] = [[] for _ in slots]
        self.readers: list[list[int]] = [[] for _ in slots]
        for source, reader in self.edges:
            if source < reader:
                self.sources[reader].append(source)
                self.readers[source].append(reader)
        ends = [self.of_a[node] for node, _ in a.outputs[:_ENDS]] + [self.of_b[node] for node, _ in b.outputs[:_ENDS]]
        starts = [of[node.id] for graph, of in ((a, self.of_a), (b, self.of_b)) for node in _inputs(graph)]
        self.ends = {*starts, *ends}

    def slots_of(self, place: Sequence[tuple[int | None, int | None]]) -> list[int]:
        """Return the slots of one place of a difference."""
        # The two nodes of a difference need not be a pair: outputs may come from elsewhere.
        found = [self.of_a[left] for left, _ in place if left is not None]
        found += [self.of_b[right] for _, right in place if right is not None]
        return sorted(set(found))

    def marks(self, places: Sequence[Places]) -> list[set[Mark]]:
        """Return for each slot the differences that are there, each with the number of its place."""
        found: list[set[Mark]] = [set() for _ in self.slots]
        for index, here in enumerate(places):
            for number, place in enumerate(here):
                for slot in self.slots_of(place):
                    found[slot].add((index, number))
        return found

    def shown(self, places: Sequence[Places], grave: Collection[int], most: int, reach: int) -> set[int]:
        """Return the slots to show one by one: first places, repeats of what is grave, and their surroundings."""
        chosen: set[int] = set()
        for here in places:
            if here and len(chosen) < most:
                chosen.update(self.slots_of(here[0])[:_LONGEST_RUN])
        for rank in range(1, max((len(places[index]) for index in grave), default=0)):
            more = {
                slot
                for index in grave
                for place in places[index][rank : rank + 1]
                for slot in self.slots_of(place)[:_LONGEST_RUN]
            }
            if len(chosen | more) > most:
                break
            chosen |= more
        around = set(chosen)
        for _ in range(reach):
            around |= {near for slot in around for near in (*self.sources[slot][:_NEAR], *self.readers[slot][:_NEAR])}
        return around | self.ends

    def folded(self, shown: set[int], marks: list[set[Mark]]) -> Sheet:
        """Fold what is not shown into stretches.

        A stretch holds connected slots behind equally many changes between shown and folded ones, so that every edge
        between parts leads to a greater such number, and folding makes no cycle.
        """
        depth = [0] * len(self.slots)
        part = list(range(len(self.slots)))
        for slot, sources in enumerate(self.sources):
            steps = [(depth[source] + (source in shown or slot in shown), source) for source in sources]
            depth[slot] = max((step for step, _ in steps), default=0)
            if slot not in shown:
                for source in sources:
                    if source not in shown and depth[source] == depth[slot]:
                        _join(part, source, slot)
        members: dict[int, list[int]] = {}
        for slot in range(len(self.slots)):
            members.setdefault(_root(part, slot), []).append(slot)
        number = {slot: index for index, each in enumerate(members.values()) for slot in each}
        edges: dict[tuple[int, int], str] = {}
        for (source, reader), sides in self.edges.items():
            if number[source] != number[reader]:
                _add_edge(edges, (number[source], number[reader]), sides)
        order = _order([float(each[0]) for each in members.values()], edges)
        at = {old: new for new, old in enumerate(order)}
        groups = list(members.values())
        parts = tuple(self._part(groups[old], marks) for old in order)
        return Sheet(parts, {(at[source], at[reader]): sides for (source, reader), sides in edges.items()})

    def _part(self, slots: list[int], marks: list[set[Mark]]) -> Part:
        found = frozenset[Mark]().union(*(marks[slot] for slot in slots))
        here = tuple(self.slots[slot] for slot in slots)
        both = [slot for slot in slots if self.slots[slot].a is not None and self.slots[slot].b is not None]
        return Part(here, found, sum(not marks[slot] for slot in both))


def _inputs(graph: CanonicalGraph) -> list[Node]:
    return [node for node in graph.nodes if node.op == INPUT][:_ENDS]


def _edges(
    graph: CanonicalGraph, slot_of: dict[int, int], side: str, known: dict[tuple[int, int], str]
) -> dict[tuple[int, int], str]:
    for node in graph.nodes:
        for source, _ in node.inputs:
            _add_edge(known, (slot_of[source], slot_of[node.id]), side)
    return known


def _add_edge(edges: dict[tuple[int, int], str], edge: tuple[int, int], sides: str) -> None:
    edges[edge] = "".join(sorted({*edges.get(edge, ""), *sides}))


def _order(wanted: Sequence[float], edges: Collection[tuple[int, int]]) -> list[int]:
    """Sort topologically, what is wanted first first; where edges make a cycle, ``wanted`` alone decides."""
    waits = [0] * len(wanted)
    readers: list[list[int]] = [[] for _ in wanted]
    for source, reader in edges:
        waits[reader] += 1
        readers[source].append(reader)
    ready = [(place, item) for item, place in enumerate(wanted) if not waits[item]]
    heapq.heapify(ready)
    stuck = iter(sorted((place, item) for item, place in enumerate(wanted)))
    found: dict[int, None] = {}
    while len(found) < len(wanted):
        _, item = heapq.heappop(ready) if ready else next(entry for entry in stuck if entry[1] not in found)
        if item in found:
            continue
        found[item] = None
        for reader in readers[item]:
            waits[reader] -= 1
            if not waits[reader] and reader not in found:
                heapq.heappush(ready, (wanted[reader], reader))
    return list(found)


def _root(part: list[int], slot: int) -> int:
    while part[slot] != slot:
        part[slot] = part[part[slot]]
        slot = part[slot]
    return slot


def _join(part: list[int], left: int, right: int) -> None:
    part[max(_root(part, left), _root(part, right))] = min(_root(part, left), _root(part, right))
