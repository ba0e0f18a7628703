"""How measured differences become findings and a verdict. Pure: same inputs, same verdict, for ever.

The engine measures and gives intervals; nothing in here measures. So a stored comparison can be judged again under
another policy.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from app.domain.policies import Criterion, Dimension

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from app.domain.policies import Policy

POWER_FACTOR = 8.57
"""(z_0.95 + z_0.90)^2: items for two one-sided tests at 5 % with 80 % power, times d / margin^2."""

SIGNIFICANCE = 0.05
"""Error of the first kind of a test that a difference is zero."""

_SHOWABLE = 1e-6
"""Accuracy margin below which no data set is large enough."""

Interval = tuple[float, float]


class Verdict(StrEnum):
    """The answer to one comparison."""

    INTERCHANGEABLE = "interchangeable"
    NOT_INTERCHANGEABLE = "not_interchangeable"
    INCONCLUSIVE = "inconclusive"


class Place(StrEnum):
    """Where one measured difference lies, by its interval."""

    INSIDE = "inside"
    OUTSIDE = "outside"
    INCONCLUSIVE = "inconclusive"


class Severity(StrEnum):
    """Whether a finding decides under the policy, or is told for information."""

    CRITICAL = "critical"
    ADVISORY = "advisory"


@dataclass(frozen=True)
class Finding:
    """One judged difference. ``effect`` and its interval are fractions; ``a`` and ``b`` are in the metric's unit."""

    dimension: Dimension
    metric: str
    a: float | None
    b: float | None
    effect: float | None
    ci95: Interval | None
    margin: float | None
    verdict: Place
    severity: Severity
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def magnitude(self) -> float:
        """Size of the effect for ranking; a ratio counts the same in both directions.

        Without an interval there is no evidence of any effect, however large the number looks.
        """
        if self.effect is None or self.ci95 is None or math.isnan(self.effect):
            return 0.0
        if self.dimension is Dimension.LATENCY:
            return max(1 + self.effect, 1 / (1 + self.effect)) - 1 if self.effect > -1 else math.inf
        return abs(self.effect)

    def to_json(self) -> dict[str, Any]:
        """Return this finding as JSON."""
        value = asdict(self)
        value["ci95"] = list(self.ci95) if self.ci95 else None
        return value


def place(interval: Interval, margin: float, *, inner: Interval | None = None) -> Place:
    """Place a difference by its 95 % interval.

    ``inner`` is the interval that must lie inside ±margin for ``inside`` (the 90 % one for two one-sided tests);
    without it the 95 % interval itself.
    """
    low, high = interval
    inner_low, inner_high = inner or interval
    if -margin <= inner_low and inner_high <= margin:
        return Place.INSIDE
    if low > margin or high < -margin:
        return Place.OUTSIDE
    return Place.INCONCLUSIVE


def items_needed(discordant: float, margin: float) -> int:
    """Items that decide equivalence with 80 % power, when a fraction ``discordant`` gets one right answer only."""
    return math.ceil(POWER_FACTOR * discordant / margin**2)


def judge_accuracy(measured: dict[str, Any], policy: Policy) -> dict[str, Any]:
    """Add ``verdict``, ``margin``, ``items_needed`` and ``significant`` to a measured accuracy block."""
    margin = policy.accuracy_margin
    judged: dict[str, Any] = dict(measured)
    for metric in ("top1", "top5"):
        if measured.get(metric):
            judged[metric] = {**measured[metric], "significant": measured[metric]["p_value"] < SIGNIFICANCE}
    top1 = judged["top1"]
    where = place(_pair(top1["ci95"]), margin, inner=_pair(top1["ci90"]))
    words = {Place.INSIDE: "equivalent", Place.OUTSIDE: "different", Place.INCONCLUSIVE: "inconclusive"}
    undecided = where is Place.INCONCLUSIVE and margin >= _SHOWABLE
    judged["verdict"] = words[where]
    judged["margin"] = margin
    judged["items_needed"] = items_needed(measured["discordant"], margin) if undecided else None
    return judged


def findings(blocks: dict[str, Any], policy: Policy, asked: Iterable[Dimension]) -> list[Finding]:
    """Return the judged differences of architecture and accuracy, whose blocks are already judged, in a fixed order."""
    dimensions = frozenset(asked)
    found: list[Finding] = []
    for dimension, make in (
        (Dimension.ARCHITECTURE, _architecture_findings),
        (Dimension.ACCURACY, _accuracy_findings),
    ):
        if blocks.get(dimension):
            severity = Severity.CRITICAL if policy.decides(dimension, dimensions) else Severity.ADVISORY
            found += make(blocks[dimension], policy, severity)
    return found


def verdict(
    blocks: dict[str, Any], policy: Policy, asked: Iterable[Dimension], *, failed: Iterable[str] = ()
) -> tuple[Verdict, str]:
    """Join the dimensions into one verdict, and say in a sentence what decided or what is missing.

    ``failed`` are dimensions that were asked for and could not be measured.
    """
    dimensions = frozenset(asked)
    outside, missing = [], []
    for criterion in policy.criteria(dimensions):
        if criterion is Criterion.INTERFACE or not policy.decides(criterion, dimensions):
            continue
        block = blocks.get(criterion)
        where = block_place(block) if block else None
        if where is Place.OUTSIDE:
            outside.append(str(criterion))
        elif where is not Place.INSIDE:
            missing.append(_what_would_decide(criterion, block, failed=criterion in failed))
    incompatible = [item["field"] for item in (blocks.get("interface") or {}).get("differences", [])]
    if incompatible and policy.decides(Criterion.INTERFACE, dimensions):
        outside.append(f"interface ({', '.join(incompatible)})")
    if outside:
        return Verdict.NOT_INTERCHANGEABLE, f"Outside the margins of policy {policy.name}: {', '.join(outside)}."
    if missing:
        return Verdict.INCONCLUSIVE, " ".join(missing)
    return Verdict.INTERCHANGEABLE, f"Every critical dimension lies inside the margins of policy {policy.name}."


def interface(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Compare how the outside meets two inspected listings: input and output shapes, label space.

    A field that one side does not state is no difference.
    """
    fields = [("input", "input_shape"), ("output", "output_shape"), ("label space", "label_space")]
    differences = [
        {"field": field, "a": a[key], "b": b[key]}
        for field, key in fields
        if a.get(key) is not None and b.get(key) is not None and a[key] != b[key]
    ]
    return {"compatible": not differences, "differences": differences}


_PLACES = {
    "identical": Place.INSIDE,
    "same_function": Place.INSIDE,
    "equivalent": Place.INSIDE,
    "same": Place.INSIDE,
    "different": Place.OUTSIDE,
    "a_faster": Place.OUTSIDE,
    "b_faster": Place.OUTSIDE,
}


def block_place(block: dict[str, Any]) -> Place:
    """Place what a judged block says, by its verdict."""
    points = block.get("operating_points", ())
    if any(_PLACES.get(point["verdict"]) is Place.OUTSIDE for point in points):
        return Place.OUTSIDE
    return _PLACES.get(block["verdict"], Place.INCONCLUSIVE)


def _what_would_decide(criterion: Criterion, block: dict[str, Any] | None, *, failed: bool) -> str:
    if block is None and failed:
        return f"{criterion} could not be measured, and the policy needs it."
    if block is None:
        return f"{criterion} was not measured, and the policy needs it: ask for --dimension {criterion}."
    if criterion in {Criterion.WEIGHTS, Criterion.FEATURES}:
        return f"{criterion}: {block['reason']}."
    if criterion is Criterion.ACCURACY:
        return f"accuracy is undecided on {block['items']} items; about {block['items_needed']} would decide."
    return f"{criterion} is undecided within the time it was given; measure it longer."


def _pair(values: Sequence[float]) -> Interval:
    low, high = values
    return (low, high)


def _relative(a: float | None, b: float | None) -> float | None:
    if a is None or b is None or b == 0:
        return None
    return (a - b) / b


def _architecture_findings(block: dict[str, Any], policy: Policy, severity: Severity) -> list[Finding]:
    places = Counter[str]()
    for item in block["differences"]:
        places[item["severity"]] += item.get("repeats", 1)
    structural = float(places["structural"])
    words = {"identical": Place.INSIDE, "same_function": Place.INSIDE, "different": Place.OUTSIDE}
    found = [
        Finding(
            Dimension.ARCHITECTURE,
            "structure",
            block["a"]["nodes"],
            block["b"]["nodes"],
            structural,
            (structural, structural),
            0.0,
            words[block["verdict"]],
            severity,
            {
                "verdict": block["verdict"],
                "severities": {name: places[name] for name in ("structural", "interface", "numeric", "cosmetic")},
            },
        )
    ]
    for metric in ("parameters", "flops"):
        a, b = block["a"].get(metric), block["b"].get(metric)
        effect = _relative(a, b)
        # Counts are exact, so their interval has no width.
        interval = None if effect is None else (effect, effect)
        where = Place.INCONCLUSIVE if interval is None else place(interval, policy.size_margin)
        found.append(
            Finding(
                Dimension.ARCHITECTURE, metric, a, b, effect, interval, policy.size_margin, where, Severity.ADVISORY
            )
        )
    return found


def _accuracy_findings(block: dict[str, Any], policy: Policy, severity: Severity) -> list[Finding]:
    margin = policy.accuracy_margin
    # How many answers change when a model is only batched otherwise: a disagreement of that size says nothing.
    noise = {"self_noise": block.get("self_noise")}
    found = []
    for metric in ("top1", "top5"):
        if not block.get(metric):
            continue
        value = block[metric]
        interval = _pair(value["ci95"])
        found.append(
            Finding(
                Dimension.ACCURACY,
                metric,
                value["a"],
                value["b"],
                value["difference"],
                interval,
                margin,
                place(interval, margin, inner=_pair(value["ci90"])),
                severity if metric == "top1" else Severity.ADVISORY,
                {"p_value": value["p_value"], "dataset": block.get("dataset"), "items": block["items"]}
                | (noise if metric == "top1" else {}),
            )
        )
    low, high = _pair(block["agreement_ci95"])
    disagreement = (1 - high, 1 - low)
    found.append(
        Finding(
            Dimension.ACCURACY,
            "disagreement",
            None,
            None,
            1 - block["agreement"],
            disagreement,
            policy.disagreement_margin,
            place(disagreement, policy.disagreement_margin),
            Severity.ADVISORY,
            {"ledger": block["ledger"], "dataset": block.get("dataset"), "items": block["items"]} | noise,
        )
    )
    if classes := block.get("classes"):
        share = classes["number"] / classes["tested"]
        found.append(
            Finding(
                Dimension.ACCURACY,
                "classes",
                None,
                None,
                share,
                None,
                0.0,
                Place.OUTSIDE if classes["number"] else Place.INSIDE,
                Severity.ADVISORY,
                {**classes, "dataset": block.get("dataset")},
            )
        )
    return found
