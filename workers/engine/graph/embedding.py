"""The vector of a canonical graph: near vectors are near architectures, whatever the models are called.

Features are counted in families (neighbourhoods of growing radius, chains of operators), each family is brought to
length one, so that none drowns the others, and all are hashed into one vector of fixed length. Sources:
neighbourhoods: Shervashidze et al., Weisfeiler-Lehman Graph Kernels, JMLR 12 (2011); hashing with signs: Weinberger et
al., Feature Hashing for Large Scale Multitask Learning, ICML 2009.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workers.engine.graph.canonical import CanonicalGraph, Node

DIMENSIONS = 512
LARGEST = 127
"""Of an element of a vector, so that one fits into a signed byte."""

_RADIUS = 3
_CHAIN = 4


def vector(graph: CanonicalGraph) -> list[int]:
    """Return a graph's vector: ``DIMENSIONS`` integers from -127 to 127, the same on every machine.

    It depends on what the fingerprint depends on and on nothing else: names, node order, weights and epsilons do not
    enter. The angle between two vectors measures how alike the graphs are.
    """
    readers = _readers(graph)
    families = [
        *_neighbourhoods(graph, readers, [_kind(node) for node in graph.nodes], _RADIUS),
        # With the sizes of the weights: the same network twice as wide is another one.
        *_neighbourhoods(graph, readers, [_sized(node) for node in graph.nodes], 1),
        *_chains(graph, readers),
    ]
    total = [0.0] * DIMENSIONS
    for number, counts in enumerate(families):
        # The root keeps a block that is repeated 36 times from hiding the one that is there once.
        length = math.sqrt(sum(counts.values())) or 1.0
        for feature, count in counts.items():
            index, sign = _place(f"{number}|{feature}")
            total[index] += sign * math.sqrt(count) / length
    scale = LARGEST / (max(map(abs, total)) or 1.0)
    return [round(value * scale) for value in total]


def _place(feature: str) -> tuple[int, int]:
    digest = hashlib.blake2b(feature.encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "big") % DIMENSIONS, 1 if digest[4] & 1 else -1


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _kind(node: Node) -> str:
    """What a node does, whatever its width: its operator with the attributes that describe a window."""
    named = ("kernel_shape", "strides", "dilations", "pads", "axis", "mode")
    kept = {name: node.attributes[name] for name in named if name in node.attributes}
    groups = node.attributes.get("group", 1)
    if isinstance(groups, int) and groups > 1:
        kept["group"] = "depthwise" if node.weights and groups == node.weights[0][0] else "some"
    return json.dumps([node.op, kept, len(node.weights)], sort_keys=True)


def _sized(node: Node) -> str:
    return node.label()


def _readers(graph: CanonicalGraph) -> list[list[int]]:
    readers: list[list[int]] = [[] for _ in graph.nodes]
    for node in graph.nodes:
        for source, _ in node.inputs:
            readers[source].append(node.id)
    return readers


def _neighbourhoods(
    graph: CanonicalGraph, readers: Sequence[Sequence[int]], labels: Sequence[str], radius: int
) -> Iterable[Counter[str]]:
    """Yield how often each neighbourhood occurs, for the radii from 0 on."""
    now = [_short(label) for label in labels]
    yield Counter(now)
    for _ in range(radius):
        now = [
            _short(
                "|".join(
                    [
                        now[node.id],
                        *sorted(now[source] for source, _ in node.inputs),
                        "#",
                        *sorted(now[reader] for reader in readers[node.id]),
                    ]
                )
            )
            for node in graph.nodes
        ]
        yield Counter(now)


def _chains(graph: CanonicalGraph, readers: Sequence[Sequence[int]]) -> Iterable[Counter[str]]:
    """Yield how often each chain of two, three, ... operators occurs, each an n-gram along the data's way."""
    ends: list[Counter[str]] = [Counter({node.op: 1}) for node in graph.nodes]
    for _ in range(_CHAIN - 1):
        longer: list[Counter[str]] = [Counter() for _ in graph.nodes]
        for node in graph.nodes:
            for reader in readers[node.id]:
                for chain, count in ends[node.id].items():
                    longer[reader][f"{chain}>{graph.nodes[reader].op}"] += count
        ends = longer
        total: Counter[str] = Counter()
        for counts in ends:
            total.update(counts)
        yield total
