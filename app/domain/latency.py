"""How a measured ratio of times becomes a verdict. Pure, as ``verdicts`` is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from app.domain.verdicts import Interval, Place, as_interval, place

if TYPE_CHECKING:
    from app.domain.policies import Policy


def judge_latency(measured: dict[str, Any], policy: Policy) -> dict[str, Any]:
    """Add ``verdict`` and ``margin`` to every operating point of a measured latency block, and the joint verdict."""
    points = [_judge_point(point, policy.latency_margin) for point in measured["operating_points"]]
    return {**measured, "operating_points": points, "verdict": _joint_latency({point["verdict"] for point in points})}


def _joint_latency(verdicts: set[str]) -> str:
    """Join the operating points: one of them outside the margin is enough, two that contradict each other are not."""
    if verdicts == {"same"}:
        return "same"
    faster = verdicts & {"a_faster", "b_faster"}
    return faster.pop() if len(faster) == 1 else "inconclusive"


def _judge_point(point: dict[str, Any], margin: float) -> dict[str, Any]:
    if point.get("ratio") is None or point.get("ci95") is None or point.get("void"):
        return {**point, "margin": margin, "verdict": "inconclusive"}
    low, _ = as_interval(point["ci95"])
    where = _place_ratio(as_interval(point["ci95"]), margin)
    if reason := _contradiction(point, where, margin):
        return {**point, "margin": margin, "verdict": "inconclusive", "reason": reason}
    if where is Place.OUTSIDE:
        return {**point, "margin": margin, "verdict": "b_faster" if low > 1 else "a_faster"}
    return {**point, "margin": margin, "verdict": "same" if where is Place.INSIDE else "inconclusive"}


def _place_ratio(interval: Interval, margin: float) -> Place:
    """Place a ratio. The margin is symmetric in the logarithm: exchanging A and B exchanges the verdict only."""
    low, high = interval
    return place((math.log(low), math.log(high)), math.log1p(margin))


def _contradiction(point: dict[str, Any], where: Place, margin: float) -> str | None:
    """Say why a placed ratio of times is not believed, None when it is.

    A difference must hold in what the work costs, not only in what it took: in cycles of a GPU, in CPU time of one
    thread. (Several threads may share equal work unequally well, which is a difference that users feel.) It holds when
    that interval excludes 1 on the same side; sameness is contradicted by an interval outside the margin.
    """
    on_device = point["device"] != "cpu"
    interval = point.get("cycles_ci95") if on_device else point.get("cpu_ci95")
    if interval is None or (not on_device and point["threads"] != 1):
        return None
    cost = as_interval(interval)
    longer = as_interval(point["ci95"])[0] > 1
    holds = cost[0] > 1 if longer else cost[1] < 1
    if (where is Place.OUTSIDE and holds) or where is Place.INCONCLUSIVE:
        return None
    if where is Place.INSIDE and _place_ratio(cost, margin) is not Place.OUTSIDE:
        return None
    name = "clock cycles" if on_device else "CPU time"
    by_cost = f"{cost[0]:.3f} to {cost[1]:.3f}"
    return (
        f"time and {name} disagree (A / B in {name}: {by_cost}), so that something else than the models made the "
        f"difference; measure again on a quieter {'device' if on_device else 'machine'}"
    )
