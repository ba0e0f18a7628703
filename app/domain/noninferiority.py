"""A candidate that may be better than its margin and not worse: one side of what a comparison judges by two.

Non-inferiority as in Wellek, "Testing Statistical Hypotheses of Equivalence and Noninferiority" (2010), by the
intervals that are there: inside when the interval's worse end is, outside when not even its better end is. Pure.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from app.domain.policies import Criterion
from app.domain.verdicts import Place, place

if TYPE_CHECKING:
    from collections.abc import Sequence

CRITERIA = (Criterion.ACCURACY, Criterion.LATENCY)
"""Criteria that have a better side."""


def places(criterion: Criterion, block: dict[str, Any]) -> list[Place]:
    """Place a judged block where only a worse candidate, which is A, lies outside: accuracy once, latency by point."""
    if criterion is Criterion.ACCURACY:
        top1 = block["top1"]
        return [_place([-end for end in top1["ci95"]], [-end for end in top1["ci90"]], block["margin"])]
    return [_latency(point) for point in block["operating_points"]]


def _latency(point: dict[str, Any]) -> Place:
    if point.get("ci95") is None or point.get("void"):
        return Place.INCONCLUSIVE
    low, high = map(math.log, point["ci95"])
    margin = math.log1p(point["margin"])
    if point["verdict"] == "inconclusive" and place((low, high), margin) is not Place.INCONCLUSIVE:
        # Something else than its width keeps it from a verdict.
        return Place.INCONCLUSIVE
    return _place((low, high), (low, high), margin)


def _place(interval: Sequence[float], inner: Sequence[float], margin: float) -> Place:
    """Place how much worse a candidate is; ``inner`` is the interval for ``inside``, as in ``verdicts.place``."""
    if max(inner) <= margin:
        return Place.INSIDE
    return Place.OUTSIDE if min(interval) > margin else Place.INCONCLUSIVE


def joint(found: Sequence[Place]) -> Place:
    """Join the places of one criterion: one outside is enough, and all have to be inside."""
    if Place.OUTSIDE in found:
        return Place.OUTSIDE
    return Place.INSIDE if set(found) == {Place.INSIDE} else Place.INCONCLUSIVE
