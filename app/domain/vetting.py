"""A comparison judged for a yes or no: A is the candidate, B the reference. Pure: same inputs, same decision."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from app.domain import needed, noninferiority, sentences, unsafe
from app.domain.policies import Criterion, Dimension
from app.domain.verdicts import Finding, Place, Severity, block_place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.domain.answer import Answer
    from app.domain.plan import Scope
    from app.domain.policies import Policy


class Decision(StrEnum):
    """The answer to a vetting."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NOT_ENOUGH_EVIDENCE = "not_enough_evidence"


class Judgement(StrEnum):
    """Where one criterion lies."""

    INSIDE = "inside"
    OUTSIDE = "outside"
    INCONCLUSIVE = "inconclusive"
    NOT_MEASURED = "not_measured"


@dataclass(frozen=True)
class Check:
    """One criterion of the policy. ``said`` names its numbers; ``needed`` says what would decide, where it is open."""

    criterion: Criterion
    tier: Severity
    verdict: Judgement
    said: str
    needed: str | None = None
    numbers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Whether this criterion is neither inside nor outside."""
        return self.verdict in {Judgement.INCONCLUSIVE, Judgement.NOT_MEASURED}


@dataclass(frozen=True)
class Vetted:
    """The decision, why, what each criterion says, what is told for information, and what would decide.

    ``needed`` begins with the cheapest measurement that could decide; it is empty unless there is not enough evidence.
    """

    verdict: Decision
    reason: str
    checks: list[Check]
    advisories: list[str]
    needed: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON."""
        return asdict(self)


def decide(answer: Answer, policy: Policy, scope: Scope) -> Vetted:
    """Decide by an answer that was judged under ``policy``; ``scope`` is what was asked of the comparison.

    Fails if the candidate could not be audited safely, or a critical criterion is outside its margin. Else there is not
    enough evidence if one is inconclusive or was not measured. Else it passes.
    """
    checks = [_check(criterion, answer, policy, scope) for criterion in policy.criteria(_asked(answer, scope))]
    critical = [check for check in checks if check.tier is Severity.CRITICAL]
    failed = [check for check in critical if check.verdict is Judgement.OUTSIDE]
    missing = sorted((check for check in critical if check.is_open), key=_cost)
    told = [check for check in checks if check.tier is Severity.ADVISORY and check.verdict is not Judgement.INSIDE]
    advisories = [check.said for check in told] + _told(answer.findings, checks)
    under = sentences.policy(policy)
    if refused := unsafe.seen(answer.result["errors"]):
        return _unsafe(refused, answer.result["a"]["ref"], checks, advisories)
    if failed:
        reason = f"Outside the margins of {under}. {_said(failed)}{_only_better(failed, answer, policy)}"
        return Vetted(Decision.FAIL, reason, checks, advisories, [])
    if missing:
        ways = [str(check.needed) for check in missing]
        reason = f"Not enough evidence for {under}. {_said(missing)} The cheapest that could decide: {ways[0]}."
        reason += _only_better(missing, answer, policy)
        return Vetted(Decision.NOT_ENOUGH_EVIDENCE, reason, checks, advisories, ways)
    return Vetted(Decision.PASS, f"Inside the margins of {under}. {_said(critical)}", checks, advisories, [])


def _unsafe(refused: Sequence[dict[str, Any]], candidate: str, checks: list[Check], advisories: list[str]) -> Vetted:
    """Decide where a model could not be audited safely: a candidate fails by that, a reference decides nothing."""
    reason = " ".join(map(unsafe.sentence, refused))
    if any(error["evidence"]["ref"] == candidate for error in refused):
        return Vetted(Decision.FAIL, reason, checks, advisories, [])
    way = "name a reference that can be loaded safely, as safetensors or ONNX"
    return Vetted(Decision.NOT_ENOUGH_EVIDENCE, reason, checks, advisories, [way])


def _only_better(checks: Sequence[Check], answer: Answer, policy: Policy) -> str:
    """Say it where all that keeps a candidate from passing is that it is better than the policy wants."""
    if policy.allow_better or not all(_is_no_worse(check, answer.result[check.criterion]) for check in checks):
        return ""
    return " The candidate is no worse there; a policy with allow_better passes that."


def _is_no_worse(check: Check, block: dict[str, Any] | None) -> bool:
    if check.criterion not in noninferiority.CRITERIA or block is None or block.get("not_measured"):
        return False
    return noninferiority.joint(noninferiority.places(check.criterion, block)) is Place.INSIDE


def _said(checks: Sequence[Check]) -> str:
    return " ".join(f"{check.said[0].upper()}{check.said[1:]}." for check in checks)


def _asked(answer: Answer, scope: Scope) -> frozenset[Dimension]:
    # A dimension that could not be measured was asked for all the same, as in the answer's own verdict.
    return frozenset({*scope.dimensions, *map(Dimension, answer.result["errors"])})


def _cost(check: Check) -> tuple[bool, bool, int]:
    """Order what is open by what deciding it costs: the cheapest first, what nothing decides last."""
    undecidable = check.criterion in needed.UNDECIDABLE
    return (undecidable, check.verdict is Judgement.INCONCLUSIVE, needed.COST.index(check.criterion))


def _check(criterion: Criterion, answer: Answer, policy: Policy, scope: Scope) -> Check:
    tier = Severity.CRITICAL if policy.decides(criterion, _asked(answer, scope)) else Severity.ADVISORY
    block = answer.result[criterion]
    if criterion is Criterion.INTERFACE:
        return _interface(answer, policy, tier)
    if criterion in needed.UNDECIDABLE:
        same = block_place(block) is Place.INSIDE
        verdict = Judgement.INSIDE if same else Judgement.NOT_MEASURED
        said = f"{criterion}: {block['reason']}"
        return Check(criterion, tier, verdict, said, None if same else needed.tensors(criterion))
    if block is None:
        error = answer.result["errors"].get(criterion)
        why = f" ({error['message'].rstrip('.')})" if error else ""
        way = needed.unmeasured(criterion, error, loaded=_loaded(answer))
        return Check(criterion, tier, Judgement.NOT_MEASURED, f"{criterion} was not measured{why}", way)
    found = [finding for finding in answer.findings if deciding(criterion, finding)]
    verdict = Judgement(block_place(block))
    if policy.allow_better and criterion in noninferiority.CRITERIA:
        places = noninferiority.places(criterion, block)
        found = [replace(finding, verdict=where) for finding, where in zip(found, places, strict=True)]
        verdict = Judgement(noninferiority.joint(places))
    if verdict is Judgement.INSIDE and block.get("not_measured"):
        # Inside at some operating points only: the others were asked for as well.
        left = "; ".join(f"{each['operating_point']} ({each['reason']})" for each in block["not_measured"])
        said = f"{criterion} was not measured at {left}"
        return Check(criterion, tier, Judgement.NOT_MEASURED, said, "choose operating points that take both (--point)")
    more = needed.undecided(criterion, block, scope) if verdict is Judgement.INCONCLUSIVE else None
    said = sentences.of_findings(criterion, verdict, found)
    return Check(criterion, tier, verdict, said, more, [_number(finding) for finding in found])


def _interface(answer: Answer, policy: Policy, tier: Severity) -> Check:
    differences = (answer.result[Criterion.INTERFACE] or {}).get("differences", [])
    if not _loaded(answer):
        # It decides of itself only where there is one; a policy that names it wants to know.
        named = Criterion.INTERFACE in (policy.critical or ())
        tier = Severity.CRITICAL if named else Severity.ADVISORY
        said = "interface: of recorded predictions no input or output is known"
        way = "compare the models themselves, not recorded predictions"
        return Check(Criterion.INTERFACE, tier, Judgement.NOT_MEASURED, said, way)
    verdict = Judgement.OUTSIDE if differences else Judgement.INSIDE
    return Check(Criterion.INTERFACE, tier, verdict, sentences.interface(differences))


def _loaded(answer: Answer) -> bool:
    """Whether there was a model on both sides, and not recorded predictions alone."""
    return all(answer.result[side].get("artifact") is not None for side in ("a", "b"))


_DECIDING = {
    Criterion.ARCHITECTURE: "structure",
    Criterion.ACCURACY: "top1",
    Criterion.LATENCY: "latency ",
}


def deciding(criterion: Criterion, finding: Finding) -> bool:
    """Whether a finding is one that a criterion is decided by."""
    return criterion.value == finding.dimension.value and finding.metric.startswith(_DECIDING[criterion])


def _number(finding: Finding) -> dict[str, Any]:
    value = finding.to_json()
    return {
        "metric": value["metric"],
        "candidate": value["a"],
        "reference": value["b"],
        "effect": value["effect"],
        "ci95": value["ci95"],
        "margin": value["margin"],
        "verdict": value["verdict"],
    }


def _told(findings: Sequence[Finding], checks: Sequence[Check]) -> list[str]:
    """Return the findings outside their margins that no criterion of the policy is decided by."""
    judged = [check.criterion for check in checks]
    return [
        sentences.finding(finding)
        for finding in findings
        if finding.verdict is Place.OUTSIDE
        and not any(criterion in _DECIDING and deciding(criterion, finding) for criterion in judged)
    ]
