"""What would decide a criterion that is open, in words. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from app.domain.policies import Criterion
from app.domain.verdicts import Place, place

if TYPE_CHECKING:
    from app.domain.plan import Scope

UNDECIDABLE = (Criterion.WEIGHTS, Criterion.FEATURES)
"""Criteria that no measurement decides yet."""

COST = (Criterion.ARCHITECTURE, Criterion.INTERFACE, Criterion.LATENCY, Criterion.ACCURACY, *UNDECIDABLE)
"""Criteria by what measuring them costs, the cheapest first: a graph, minutes, a data set."""

NO_DATASET = "no-dataset"
RANDOM_WEIGHTS = "random-weights"
"""Codes of the reasons for which accuracy is left out."""

_MOST_BUDGET_S = 3600.0


def tensors(criterion: Criterion) -> str:
    """Say what would decide weights or features."""
    same = "only the same bytes pass" if criterion is Criterion.WEIGHTS else "only one network of the same bytes passes"
    return f"nothing that can be measured today decides {criterion}; {same}"


def unmeasured(criterion: Criterion, error: dict[str, Any] | None, *, loaded: bool) -> str:
    """Say how to measure a dimension that was not. ``error`` says why, ``loaded`` whether there are models to measure.

    Of a model that is known by its predictions alone there is none.
    """
    if not loaded and criterion is not Criterion.ACCURACY:
        return f"measure {criterion} of the models themselves, not of recorded predictions"
    ways = {
        NO_DATASET: "measure accuracy: name a data set (--dataset)",
        RANDOM_WEIGHTS: "measure accuracy: choose weights that were trained",
    }
    if error is not None:
        return ways.get(error["code"], f"mend what kept {criterion} from being measured, and vet again")
    return f"measure {criterion} (--dimension {criterion})"


def undecided(criterion: Criterion, block: dict[str, Any], scope: Scope) -> str:
    """Say how much more of a measurement would decide a judged block that is inconclusive."""
    if criterion is Criterion.ACCURACY:
        if block["items_needed"] is None:
            return f"no data set is large enough for a margin of {block['margin']:g}; set a larger accuracy_margin"
        return f"a data set of about {block['items_needed']:,} items (this one has {block['items']:,})"
    return _longer(block, scope.latency_budget_s)


def _longer(block: dict[str, Any], budget_s: float) -> str:
    """Say how long latency has to be measured, by how intervals shrink with the square root of time."""
    factors = []
    for point in (each for each in block["operating_points"] if each["verdict"] == "inconclusive"):
        factor = _factor(point)
        if factor is None:
            return f"measure latency again: {point['undecided']}"
        factors.append(factor)
    wanted = budget_s * max(factors, default=1.0)
    if wanted > _MOST_BUDGET_S:
        return "hours of timing, because the difference lies at the margin; change latency_margin, or leave it open"
    # Rounded up to tens, which is as exact as such a forecast is.
    return f"measure latency for about {10 * math.ceil(max(wanted, budget_s) / 10)} s (--budget)"


def _factor(point: dict[str, Any]) -> float | None:
    """How much more time decides a point that keeps its ratio; None where something else than its width is amiss."""
    if point.get("ratio") is None or point.get("ci95") is None or point.get("void"):
        return None
    low, high = (math.log(end) for end in point["ci95"])
    margin = math.log1p(point["margin"])
    if place((low, high), margin) is not Place.INCONCLUSIVE:
        return None
    distance = abs(abs(math.log(point["ratio"])) - margin)
    return ((high - low) / 2 / distance) ** 2 if distance else math.inf
