"""How measured latency becomes verdicts and findings. Pure: same inputs, same verdict, for ever."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from app.domain import confirmation
from app.domain.policies import Dimension
from app.domain.verdicts import Finding, Place, Severity, place

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from app.domain.policies import Policy

_PLACES = {"same": Place.INSIDE, "a_faster": Place.OUTSIDE, "b_faster": Place.OUTSIDE}


def latency_block(session: dict[str, Any], a_ref: str, b_ref: str) -> dict[str, Any]:
    """Cut one pair out of a latency session's JSON.

    Operating points that lack one of the two stand under ``not_measured``, each with the reason.
    """
    points, missing = [], []
    for point in session["operating_points"]:
        pair = next((pair for pair in point["pairs"] if (pair["a"], pair["b"]) == (a_ref, b_ref)), None)
        if pair is None:
            missing.append({"operating_point": words(point), "reason": _missing(point, a_ref, b_ref)})
            continue
        shared = {key: value for key, value in point.items() if key not in {"entries", "pairs"}}
        ratio = {key: value for key, value in pair.items() if key not in {"a", "b"}}
        # A listing compared with itself is two entries of one name.
        a = next(entry for entry in point["entries"] if entry["ref"] == a_ref)
        b = next(entry for entry in reversed(point["entries"]) if entry["ref"] == b_ref)
        points.append({**shared, **ratio, "a": a, "b": b})
    return {"operating_points": points, "not_measured": missing, "machine": session["machine"]}


def _missing(point: dict[str, Any], *refs: str) -> str:
    """Say why a point has not both of these listings."""
    reasons = [f"{item['ref']}: {item['reason']}" for item in point["excluded"] if item["ref"] in refs]
    return "; ".join(dict.fromkeys(reasons)) or point["reason"] or "no block took both"


def judge_latency(measured: dict[str, Any], policy: Policy) -> dict[str, Any]:
    """Add ``verdict`` and ``margin`` to every operating point and framework of a measured block, and the joint verdict.

    ``undecided`` says in a sentence what keeps a point from a verdict, None where it has one.
    """
    points = [_judge_point(point, policy.latency_margin) for point in measured["operating_points"]]
    return {**measured, "operating_points": points, "verdict": _joint({point["verdict"] for point in points})}


def _joint(verdicts: set[str]) -> str:
    """Join the operating points: one of them outside the margin is enough, two that contradict each other are not."""
    if verdicts == {"same"}:
        return "same"
    faster = verdicts & {"a_faster", "b_faster"}
    return faster.pop() if len(faster) == 1 else "inconclusive"


def _judge_point(point: dict[str, Any], margin: float) -> dict[str, Any]:
    void = bool(point.get("void"))
    verdict = "inconclusive" if void else _word(point.get("ratio"), point.get("ci95"), margin)
    judged = {**point, "margin": margin, "verdict": verdict, "undecided": None}
    if doubt := confirmation.doubt(point, verdict, margin):
        judged |= {"verdict": "inconclusive", "undecided": doubt}
    elif verdict == "inconclusive":
        judged["undecided"] = _undecided(judged)
    if framework := point.get("framework"):
        word = "inconclusive" if void else _word(framework["ratio"], framework["ci95"], margin)
        judged["framework"] = {**framework, "margin": margin, "verdict": word}
    return judged


def _word(ratio: float | None, ci95: Sequence[float] | None, margin: float) -> str:
    if ratio is None or ci95 is None:
        return "inconclusive"
    low, high = ci95
    # The margin is symmetric in the logarithm, so that exchanging A and B exchanges the verdict and nothing else.
    where = place((math.log(low), math.log(high)), math.log1p(margin))
    if where is Place.OUTSIDE:
        return "b_faster" if low > 1 else "a_faster"
    return "same" if where is Place.INSIDE else "inconclusive"


def _undecided(point: dict[str, Any]) -> str:
    """Say what keeps a point from a verdict, and what would decide."""
    stopped = f" ({point['reason']})" if point.get("reason") else ""
    if point.get("void"):
        return (
            f"the control, one model against itself, moved by more than a third of the margin{stopped}; measure again "
            "on a quieter machine"
        )
    if point.get("ci95") is None:
        blocks = point.get("blocks") or 0
        return f"{blocks} block{' gives' if blocks == 1 else 's give'} no interval{stopped}; measure longer"
    needed = point.get("blocks_needed")
    more = f"; about {needed:,} blocks would decide" if needed else ""
    return f"the interval crosses the margin of {100 * point['margin']:g} %{stopped}{more}"


def findings(judged: dict[str, Any], policy: Policy, asked: Collection[Dimension]) -> list[Finding]:
    """Return the findings of a judged block.

    Each operating point is one; the framework's share of a difference, and a model whose output changes from call to
    call, are told for information.
    """
    severity = Severity.CRITICAL if policy.decides(Dimension.LATENCY, frozenset(asked)) else Severity.ADVISORY
    found = []
    for point in judged["operating_points"]:
        details = {name: point.get(name) for name in ("control", "verdict", "stopped", "undecided")}
        details["machine"] = judged["machine"].get("short")
        values = (point["a"].get("median_ms"), point["b"].get("median_ms"))
        found.append(_finding(f"latency {words(point)}", values, point, severity, details))
        if framework := point.get("framework"):
            details = {name: framework[name] for name in ("common", "model_ratio", "verdict")}
            found.append(_finding(f"framework {words(point)}", (None, None), framework, Severity.ADVISORY, details))
    return found + _changing(judged["operating_points"])


_DEFAULTS = {"precision": "float32", "layout": "channels_first", "graph_optimization": "all", "boundary": "host"}


def words(point: dict[str, Any]) -> str:
    """Return an operating point in one line."""
    plain = f"{point['runtime']} {point['device']} batch {point['batch']} threads {point['threads']}"
    return " ".join([plain, *special(point)])


def special(point: dict[str, Any]) -> list[str]:
    """Return what of an operating point is not the default, in words."""
    return [
        f"optimization {point[name]}" if name == "graph_optimization" else str(point[name])
        for name, default in _DEFAULTS.items()
        if point.get(name) not in {None, default}
    ]


def _finding(
    metric: str,
    values: tuple[float | None, float | None],
    judged: dict[str, Any],
    severity: Severity,
    details: dict[str, Any],
) -> Finding:
    ratio, interval = judged.get("ratio"), judged.get("ci95")
    return Finding(
        Dimension.LATENCY,
        metric,
        values[0],
        values[1],
        None if ratio is None else ratio - 1,
        None if interval is None else (interval[0] - 1, interval[1] - 1),
        judged["margin"],
        _PLACES.get(judged["verdict"], Place.INCONCLUSIVE),
        severity,
        details,
    )


def _changing(points: Sequence[dict[str, Any]]) -> list[Finding]:
    """Return one finding when a side gives equal inputs unequal outputs anywhere; ``a`` and ``b``: 1 where it does."""
    changing = {
        side: [words(point) for point in points if point[side].get("deterministic") is False] for side in ("a", "b")
    }
    if not any(changing.values()):
        return []
    return [
        Finding(
            Dimension.LATENCY,
            "output changes",
            float(bool(changing["a"])),
            float(bool(changing["b"])),
            None,
            None,
            None,
            Place.OUTSIDE,
            Severity.ADVISORY,
            {"operating_points": changing},
        )
    ]
