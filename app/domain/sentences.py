"""Judged differences in words, each with its interval and its margin. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.domain import suspicions
from app.domain.policies import Criterion, Dimension
from app.domain.verdicts import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.domain.policies import Policy
    from app.domain.verdicts import Finding, Interval


BETWEEN = "; "
"""Stands between the numbers of one criterion."""


def policy(value: Policy) -> str:
    """Return a policy's name and version."""
    return f"policy {value.name}" + ("" if value.version is None else f" version {value.version}")


def interface(differences: Sequence[dict[str, Any]]) -> str:
    """Say how the outside meets candidate and reference."""
    if not differences:
        return "interface: the same input, output and label space"
    return "interface: " + ", ".join(f"{item['field']} {item['a']} against {item['b']}" for item in differences)


def of_findings(criterion: Criterion, verdict: str, found: Sequence[Finding]) -> str:
    """Say what a criterion is decided by: of several findings those that lie where the criterion does."""
    chosen = [each for each in found if each.verdict == verdict] or list(found)
    return f"{criterion}: {BETWEEN.join(map(finding, chosen))}"


def finding(value: Finding) -> str:
    """Say one finding, with its interval and margin as far as it has them."""
    if value.metric == "structure":
        return _structure(value)
    if value.metric == "contract":
        return f"the input contracts differ in {', '.join(item['field'] for item in value.details['differences'])}"
    if value.metric == "output changes":
        return "a model's output changes from call to call with the same input"
    if "evidence" in value.details and "kind" in value.details:
        return f"suspected {suspicions.sentence(value.details)}"
    if value.dimension is Dimension.LATENCY:
        return _latency(value)
    name = {"top1": "top-1", "top5": "top-5"}.get(value.metric, value.metric)
    both = _both(value)
    effect = "" if value.effect is None else f"{', ' if both else ' '}{_signed(value.effect)}"
    return f"{name}{both}{effect}{_limits(value.ci95, value.margin)}"


def _both(value: Finding) -> str:
    if value.a is None or value.b is None:
        return ""
    if value.dimension is Dimension.ACCURACY:
        return f" {_percent(value.a)} against {_percent(value.b)}"
    return f" {value.a:,.0f} against {value.b:,.0f}"


def _structure(value: Finding) -> str:
    if value.verdict is Place.INSIDE:
        return "identical graphs" if value.details["verdict"] == "identical" else "the same function"
    number = value.details["severities"]["structural"]
    if not number:
        return "no structural difference, and not proven to compute the same"
    return f"{number} structural difference{'' if number == 1 else 's'} (exact, margin 0)"


def _latency(value: Finding) -> str:
    where = value.metric.removeprefix("latency ").replace("framework ", "the framework alone at ")
    known = value.a is not None and value.b is not None
    times = f": {value.a:.3g} ms against {value.b:.3g} ms" if known else ""
    faster = {"a_faster": ", the candidate is faster", "b_faster": ", the candidate is slower"}
    said = faster.get(value.details.get("verdict") or "", "")
    effect = "" if value.effect is None else f", ratio {_ratio(value.effect)}"
    return f"{where}{times}{effect}{_limits(value.ci95, value.margin, _ratio)}{said}"


def _limits(interval: Interval | None, margin: float | None, write: Callable[[float], str] | None = None) -> str:
    parts = []
    if interval is not None and interval[0] != interval[1]:
        low, high = map(write or _signed, interval)
        parts.append(f"95 % interval {low} to {high}")
    if margin is not None:
        parts.append(f"margin {100 * margin:g} %")
    return f" ({', '.join(parts)})" if parts else ""


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _ratio(effect: float) -> str:
    return f"{1 + effect:.3f}"


def _signed(value: float) -> str:
    return f"{100 * value:+.2f} %"
