"""Aligning two canonical graphs: which node of one stands where which node of the other does.

Nodes are compared by operator, attributes, weight shapes and dataflow, never by name. The canonical order follows the
dataflow (post-order from the outputs), so a global sequence alignment (Needleman & Wunsch, J. Mol. Biol. 48 (1970),
with a linear gap cost) pairs what it can; nodes that it leaves over are then paired where their neighbours correspond.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.engine.graph.canonical import INPUT, NUMERIC

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workers.engine.graph.canonical import CanonicalGraph, Node

GAP = -1.0
"""Score of leaving one node unpaired."""

NEVER = -1e9
"""Score of pairing nodes that can not stand for each other."""

_REACH = 6
"""How many readers away nodes with one past are told apart."""

_EQUAL = 0.05

MAX_CELLS = 40_000_000
"""Alignments larger than this (after equal beginnings and ends are taken off) are done in windows of equal position."""

_FAMILIES = (
    {"Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Selu", "HardSwish", "HardSigmoid", "Gelu", "PRelu",
     "Softplus", "Mish", "Celu", "Erf", "Swish"},
    {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool"},
    {"Conv", "ConvTranspose", "Gemm", "MatMul"},
    {"BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "LRN"},
    {"Add", "Mul", "Sub", "Div", "Concat", "Max", "Min"},
    {"Softmax", "LogSoftmax"},
    {"Flatten", "Reshape"},
)  # fmt: skip
"""Operators that may take each other's place."""

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization", INPUT)
"""Operators that anchor an alignment more than the activations between them."""


@dataclass(frozen=True)
class Alignment:
    """Pairs of node ids (a, b) in a's order, and the ids without a partner."""

    pairs: tuple[tuple[int, int], ...]
    a_only: tuple[int, ...]
    b_only: tuple[int, ...]


def align(a: CanonicalGraph, b: CanonicalGraph) -> Alignment:
    """Pair the nodes of two graphs; graphs with the same fingerprint are paired node by node."""
    if a.fingerprint == b.fingerprint and len(a.nodes) == len(b.nodes):
        return Alignment(tuple((index, index) for index in range(len(a.nodes))), (), ())
    partner = _equal_pasts(a, b)
    partner |= _sequence_pairs(a, b, partner)
    _pair_by_neighbours(a, b, partner)
    taken = set(partner.values())
    return Alignment(
        pairs=tuple(sorted(partner.items())),
        a_only=tuple(node.id for node in a.nodes if node.id not in partner),
        b_only=tuple(node.id for node in b.nodes if node.id not in taken),
    )


def similarity(a: Node, b: Node) -> float:
    """Score of pairing two nodes: ``NEVER`` for unrelated operators, up to 8 for equal ones."""
    weight = 1.0 if a.op in _WEIGHTED else 0.5
    if a.op != b.op:
        related = any(a.op in family and b.op in family for family in _FAMILIES)
        return (0.5 + 0.5 * (a.shape == b.shape)) * weight if related else NEVER
    keys = (set(a.attributes) | set(b.attributes)) - set(NUMERIC)
    same = sum(a.attributes.get(key) == b.attributes.get(key) for key in keys) / len(keys) if keys else 1.0
    return weight * (3.0 + 3.0 * same + (a.weights == b.weights) + (a.shape == b.shape))


def _equal_pasts(a: CanonicalGraph, b: CanonicalGraph) -> dict[int, int]:
    """Pair the nodes that compute the same function of the inputs: whatever the order, they correspond.

    Two branches of a concatenation that changed places are told apart by this alone. Nodes that share one past (the
    equal first layers of two branches) are told apart by who reads them, at the greatest distance up to ``_REACH``
    where both graphs still agree, and in order where nothing tells them apart and both graphs have as many.
    """
    pairs: dict[int, int] = {}
    repeated: list[tuple[list[int], list[int]]] = []
    left, right = (_by_key(range(len(graph.nodes)), graph.digests) for graph in (a, b))
    for digest, here in left.items():
        there = right.get(digest, [])
        if len(here) == len(there) == 1:
            pairs[here[0]] = there[0]
        elif there:
            repeated.append((here, there))
    if repeated:
        known: dict[tuple[Any, ...], int] = {}
        levels = list(zip(_surroundings(a, known), _surroundings(b, known), strict=True))
        for here, there in repeated:
            pairs |= _pair_repeats(here, there, levels)
    return pairs


def _by_key(ids: Iterable[int], keys: Sequence[Any]) -> dict[Any, list[int]]:
    found: dict[Any, list[int]] = {}
    for item in ids:
        found.setdefault(keys[item], []).append(item)
    return found


def _surroundings(graph: CanonicalGraph, known: dict[tuple[Any, ...], int]) -> list[list[int]]:
    """For each distance, a number for every node's past and those of its readers up to there; ``known`` is shared."""
    followers = readers(graph)
    levels = [[known.setdefault((digest,), len(known)) for digest in graph.digests]]
    for _ in range(_REACH):
        before = levels[-1]
        levels.append(
            [
                known.setdefault((levels[0][item], *sorted(before[reader] for reader in followers[item])), len(known))
                for item in range(len(graph.nodes))
            ]
        )
    return levels


def _pair_repeats(here: list[int], there: list[int], levels: list[tuple[list[int], list[int]]]) -> dict[int, int]:
    pairs: dict[int, int] = {}
    for distance in reversed(range(len(levels))):
        groups_a, groups_b = (
            _by_key((item for item in ids if item not in taken), keys)
            for ids, taken, keys in zip((here, there), (pairs, set(pairs.values())), levels[distance], strict=True)
        )
        for key, group in groups_a.items():
            if len(group) == len(groups_b.get(key, ())):
                pairs.update(zip(group, groups_b[key], strict=True))
    return pairs


def _sequence_pairs(a: CanonicalGraph, b: CanonicalGraph, known: dict[int, int]) -> list[tuple[int, int]]:
    """Align what is left, in canonical order; equal beginnings and ends need no search."""
    taken = set(known.values())
    left = [node.id for node in a.nodes if node.id not in known]
    right = [node.id for node in b.nodes if node.id not in taken]
    labels_a = [_label(a.nodes[item]) for item in left]
    labels_b = [_label(b.nodes[item]) for item in right]
    shorter = min(len(labels_a), len(labels_b))
    start = 0
    while start < shorter and labels_a[start] == labels_b[start]:
        start += 1
    end = 0
    while end < shorter - start and labels_a[-1 - end] == labels_b[-1 - end]:
        end += 1
    pairs = [(left[index], right[index]) for index in range(start)]
    pairs += [(left[-1 - index], right[-1 - index]) for index in range(end)]
    middle_a = left[start : len(left) - end]
    middle_b = right[start : len(right) - end]
    windows = max(1, -(-len(middle_a) * len(middle_b) // MAX_CELLS))
    for part_a, part_b in zip(np.array_split(middle_a, windows), np.array_split(middle_b, windows), strict=True):
        pairs += _needleman_wunsch(a, b, part_a.astype(int).tolist(), part_b.astype(int).tolist())
    return pairs


def _label(node: Node) -> tuple[str, tuple[int, ...]]:
    return node.label(), node.shape


def _needleman_wunsch(
    a: CanonicalGraph, b: CanonicalGraph, ids_a: list[int], ids_b: list[int]
) -> list[tuple[int, int]]:
    """Best-scoring alignment of two node sequences, row by row.

    With a linear gap cost the dependency along a row is a running maximum of ``score - gap * column``, which numpy
    computes at once.
    """
    if not ids_a or not ids_b:
        return []
    scores = _score_matrix(a, b, ids_a, ids_b)
    columns = np.arange(len(ids_b) + 1, dtype=np.float32) * np.float32(GAP)
    table = np.empty((len(ids_a) + 1, len(ids_b) + 1), dtype=np.float32)
    table[0] = columns
    for row in range(1, len(ids_a) + 1):
        best = table[row - 1] + np.float32(GAP)
        np.maximum(best[1:], table[row - 1, :-1] + scores(row - 1), out=best[1:])
        table[row] = np.maximum.accumulate(best - columns) + columns
    pairs = []
    row, column = len(ids_a), len(ids_b)
    while row and column:
        here = table[row, column]
        # Scores are multiples of larger fractions, and float32 rounds sums of thousands of them by less.
        diagonal = table[row - 1, column - 1] + scores(row - 1)[column - 1]
        if abs(here - diagonal) < _EQUAL:
            pairs.append((ids_a[row - 1], ids_b[column - 1]))
            row, column = row - 1, column - 1
        elif abs(here - table[row - 1, column] - GAP) < _EQUAL:
            row -= 1
        else:
            column -= 1
    return pairs


def _score_matrix(a: CanonicalGraph, b: CanonicalGraph, ids_a: list[int], ids_b: list[int]) -> Any:
    """Return a function from row to that row's scores; equal nodes share one computed row."""
    kinds_b: dict[tuple[str, tuple[int, ...]], int] = {}
    column_kind = np.array([kinds_b.setdefault(_label(b.nodes[item]), len(kinds_b)) for item in ids_b])
    examples = {kind: b.nodes[item] for item, kind in zip(reversed(ids_b), reversed(column_kind.tolist()), strict=True)}
    ordered = [examples[kind] for kind in range(len(examples))]
    rows: dict[tuple[str, tuple[int, ...]], Any] = {}

    def row(index: int) -> Any:
        node = a.nodes[ids_a[index]]
        key = _label(node)
        if key not in rows:
            rows[key] = np.array([similarity(node, example) for example in ordered], dtype=np.float32)
        return rows[key][column_kind]

    return row


def _pair_by_neighbours(a: CanonicalGraph, b: CanonicalGraph, partner: dict[int, int]) -> None:
    """Pair leftover nodes of the same operator whose inputs or readers already correspond, best score first."""
    readers_a, readers_b = readers(a), readers(b)
    taken = set(partner.values())
    grew = True
    while grew:
        found: list[tuple[float, int, int]] = []
        for node in a.nodes:
            if node.id in partner:
                continue
            near = Counter(
                reader for source, _ in node.inputs if source in partner for reader in readers_b[partner[source]]
            )
            near.update(
                source
                for reader in readers_a[node.id]
                if reader in partner
                for source, _ in b.nodes[partner[reader]].inputs
            )
            for other, shared in near.items():
                if other not in taken and b.nodes[other].op == node.op:
                    found.append((shared + similarity(node, b.nodes[other]) / 8, node.id, other))
        grew = False
        for _, left, right in sorted(found, key=lambda item: (-item[0], item[1], item[2])):
            if left not in partner and right not in taken:
                partner[left] = right
                taken.add(right)
                grew = True


def readers(graph: CanonicalGraph) -> list[list[int]]:
    """For each node, the ids of the nodes that read it."""
    found: list[list[int]] = [[] for _ in graph.nodes]
    for node in graph.nodes:
        for source, _ in node.inputs:
            found[source].append(node.id)
    return found
