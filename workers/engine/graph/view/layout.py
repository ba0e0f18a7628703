"""Where the parts of a view stand: layers from top to bottom, edges routed between them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import igraph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.engine.graph.view.joint import Sheet

Point = tuple[float, int]
"""A column's middle in pixels, and a layer."""


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

    ``box`` and ``lane`` are the widths of a part and of a passing edge, ``gap`` is kept between them. Layers, order and
    columns are igraph's (Sugiyama, Tagawa & Toda, IEEE Trans. SMC 11 (1981)); it takes all vertices for equally wide,
    so columns in which only edges run are narrowed here. Edges to an earlier part are not routed.
    """
    forward = [edge for edge in sheet.edges if edge[0] < edge[1]]
    graph = igraph.Graph(n=len(sheet.parts), edges=forward, directed=True)
    drawn = graph.layout_sugiyama()
    boxes = [(float(x), round(y)) for x, y in drawn.coords]
    routes = [[(float(x), round(y)) for x, y in route] for route in drawn.edge_routing]
    columns = _columns(boxes, [point for route in routes for point in route], box, lane, gap)
    return Layout(
        parts=tuple((columns[x], y) for x, y in boxes),
        edges={edge: tuple((columns[x], y) for x, y in route) for edge, route in zip(forward, routes, strict=True)},
        width=max(
            [columns[x] + box / 2 for x, _ in boxes] + [columns[x] + lane / 2 for route in routes for x, _ in route]
        ),
        layers=1 + max((y for _, y in boxes), default=-1),
    )


def _columns(
    boxes: Sequence[Point], passing: Sequence[Point], box: float, lane: float, gap: float
) -> dict[float, float]:
    """Give each column the least x that keeps its vertices clear of their left neighbours in every layer."""
    layers: dict[int, list[tuple[float, float]]] = {}
    for points, width in ((boxes, box), (passing, lane)):
        for x, y in points:
            layers.setdefault(y, []).append((x, width))
    apart: dict[float, list[tuple[float, float]]] = {}
    for members in layers.values():
        members.sort()
        for (left, left_width), (right, right_width) in pairwise(members):
            if left < right:
                apart.setdefault(right, []).append((left, (left_width + right_width) / 2 + gap))
    found: dict[float, float] = {}
    least = box / 2
    for x in sorted({x for x, _ in (*boxes, *passing)}):
        least = max([least, *(found[left] + distance for left, distance in apart.get(x, ()))])
        found[x] = least
    return found
