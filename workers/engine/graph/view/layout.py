"""Where the parts of a view stand: layers from top to bottom, edges routed between them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import igraph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.engine.graph.view.joint import Sheet

Point = tuple[float, int]
"""A middle in pixels, and a layer."""

_SWEEPS = 3


@dataclass(frozen=True)
class Layout:
    """For each part its point; for each edge the points between its ends, where it passes other layers.

    ``width`` is that of one side in pixels, ``layers`` their number.
    """

    parts: tuple[Point, ...]
    edges: dict[tuple[int, int], tuple[Point, ...]]
    width: float
    layers: int


def layout(sheet: Sheet, box: float, lane: float, gap: float) -> Layout:
    """Lay out the parts once for both sides, so that what corresponds stands at the same place of each.

    ``box`` and ``lane`` are the widths of a part and of a passing edge, ``gap`` is kept between them. Layers, their
    order and what stands straight above each other are igraph's (Sugiyama, Tagawa & Toda, IEEE Trans. SMC 11 (1981));
    it takes all vertices for equally wide, so the distances are closed up here. Edges to an earlier part are not
    routed.
    """
    forward = [edge for edge in sheet.edges if edge[0] < edge[1]]
    drawn = igraph.Graph(n=len(sheet.parts), edges=forward, directed=True).layout_sugiyama()
    points = [(float(x), round(y)) for x, y in drawn.coords]
    chains = []
    for (source, reader), route in zip(forward, drawn.edge_routing, strict=True):
        chains.append([source, *range(len(points), len(points) + len(route)), reader])
        points += [(float(x), round(y)) for x, y in route]
    widths = [box] * len(sheet.parts) + [lane] * (len(points) - len(sheet.parts))
    middles = _closed_up(points, widths, [link for chain in chains for link in pairwise(chain)], gap)
    placed = [(x, y) for x, (_, y) in zip(middles, points, strict=True)]
    return Layout(
        parts=tuple(placed[: len(sheet.parts)]),
        edges={edge: tuple(placed[item] for item in chain[1:-1]) for edge, chain in zip(forward, chains, strict=True)},
        width=max(x + width / 2 for x, width in zip(middles, widths, strict=True)),
        layers=1 + max(y for _, y in points),
    )


def _closed_up(
    points: Sequence[Point], widths: Sequence[float], links: Sequence[tuple[int, int]], gap: float
) -> list[float]:
    """Return each vertex's x: as far left as its neighbours in every layer let it, then back towards its links.

    Linked vertices that stand straight above each other move together, as one column.
    """
    column = _columns(points, links)
    order = sorted(range(len(points)), key=lambda item: points[item][0])
    half: dict[int, float] = {}
    layers: dict[int, list[int]] = {}
    for item in order:
        half[column[item]] = max(half.get(column[item], 0.0), widths[item] / 2)
        layers.setdefault(points[item][1], []).append(item)
    left: dict[int, list[tuple[int, float]]] = {name: [] for name in half}
    right: dict[int, list[tuple[int, float]]] = {name: [] for name in half}
    for one, other in (pair for row in layers.values() for pair in pairwise(row)):
        apart = (widths[one] + widths[other]) / 2 + gap
        left[column[other]].append((column[one], apart))
        right[column[one]].append((column[other], apart))
    x: dict[int, float] = {}
    for name, least in half.items():
        x[name] = max([least, *(x[other] + apart for other, apart in left[name])])
    near: dict[int, list[int]] = {name: [] for name in half}
    for one, other in ((column[one], column[other]) for one, other in links if column[one] != column[other]):
        near[one].append(other)
        near[other].append(one)
    width = max(x[name] + half[name] for name in half)
    for name in [*reversed(half)] * _SWEEPS:
        room = min([width - half[name], *(x[other] - apart for other, apart in right[name])])
        x[name] = max(x[name], min(room, median([x[other] for other in near[name]] or [0.0])))
    return [x[name] for name in column]


def _columns(points: Sequence[Point], links: Sequence[tuple[int, int]]) -> list[int]:
    """Name for each vertex the straight column it belongs to: linked vertices of one x."""
    column = list(range(len(points)))
    for one, other in sorted(links, key=lambda link: points[link[1]][1]):
        if points[one][0] == points[other][0]:
            column[other] = column[one]
    return column
