"""The answer to a comparison, put together from what was measured. Pure; DESIGN's JSON contract in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.domain import changes, claims, contracts, latency, suspicions, unsafe, weights
from app.domain.numbers import restored
from app.domain.policies import Criterion, Dimension, Policy
from app.domain.verdicts import Finding, Verdict, findings, interface, judge_accuracy, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Side:
    """One side of a comparison: the reference asked for, and the values of its measurements, as far as it has any.

    ``inspected`` is None for a model that is known by imported predictions alone. ``claims`` are those of its listing,
    ``predictions`` is the SHA-256 of the stored file with its answers. ``overrides`` are the fields of its input
    contract that the comparison asked for otherwise.
    """

    ref: str
    inspected: dict[str, Any] | None
    predicted: dict[str, Any] | None = None
    claims: Sequence[dict[str, Any]] = ()
    predictions: str | None = None
    overrides: dict[str, Any] | None = None

    @property
    def contract(self) -> dict[str, Any] | None:
        """How its pictures are prepared; None when nobody says, as for imported predictions."""
        if self.inspected is None:
            return None
        return effective(self.inspected, self.overrides)

    def to_json(self) -> dict[str, Any]:
        """Return this side as the contract has it. ``recorded`` says that its predictions were imported."""
        listing = self.inspected["listing"] if self.inspected else {}
        provenance = self.predicted["provenance"] if self.predicted else {}
        return {
            "ref": self.ref,
            "listing": listing.get("ref"),
            "architecture": listing.get("architecture"),
            "artifact": self.inspected["artifact"] if self.inspected else None,
            "contract": self.contract,
            "contract_overrides": self.overrides,
            "claims": list(self.claims),
            "recorded": bool(provenance.get("recorded")),
            "predictions": self.predictions,
        }

    def interface(self) -> dict[str, Any]:
        """Return what the outside meets: shapes and label space."""
        if self.inspected is None:
            return {}
        return self.inspected | {"label_space": self.inspected["listing"]["label_space"]}


def effective(inspected: dict[str, Any], overrides: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the contract that a model's pictures go through, None when its zoo documents none.

    Overridden fields of an undocumented one stand on what the graph's input alone says: its shape, and pixels 0-255.
    """
    documented: dict[str, Any] | None = inspected["listing"].get("contract")
    if overrides is None:
        return documented
    return contracts.overridden(documented or inspected["contract"], overrides)


@dataclass(frozen=True)
class Answer:
    """Verdict, findings, and the JSON of DESIGN without the comparison's own id and state."""

    verdict: Verdict
    findings: list[Finding]
    result: dict[str, Any]


def build(
    a: Side, b: Side, *, measured: dict[str, Any], errors: dict[str, Any], policy: Policy, asked: Sequence[Dimension]
) -> Answer:
    """Judge what was measured under a policy.

    ``measured`` holds the engine's blocks by dimension, None or absent where there is none; ``errors`` says why, by
    dimension, as ``{"class", "code", "message", "evidence"?}``.
    """
    shared = {
        "interface": interface(a.interface(), b.interface()),
        "contract": contracts.compare(a.contract, b.contract),
    }
    return _judged(a.to_json(), b.to_json(), {**measured, **shared}, errors=errors, policy=policy, asked=asked)


def again(result: dict[str, Any], policy: Policy, asked: Sequence[Dimension]) -> Answer:
    """Judge a stored answer's measurements under another policy; ``result`` is what ``build`` gave, as it was stored.

    Under the policy that it was judged by, it comes out as it is.
    """
    stored = restored(result)
    names = (*Dimension, "interface", "contract")
    measured = {str(name): stored.get(name) for name in names}
    return _judged(stored["a"], stored["b"], measured, errors=stored["errors"], policy=policy, asked=asked)


def _judged(
    a: dict[str, Any],
    b: dict[str, Any],
    measured: dict[str, Any],
    *,
    errors: dict[str, Any],
    policy: Policy,
    asked: Sequence[Dimension],
) -> Answer:
    """Judge blocks under a policy; ``a`` and ``b`` are the sides' JSON. What an earlier judgement added is replaced."""
    blocks: dict[str, Any] = {
        Dimension.ARCHITECTURE: measured.get("architecture"),
        Dimension.ACCURACY: judge_accuracy(measured["accuracy"], policy) if measured.get("accuracy") else None,
        Dimension.LATENCY: latency.judge_latency(measured["latency"], policy) if measured.get("latency") else None,
        "interface": measured["interface"],
        "contract": measured["contract"],
    }
    blocks[Criterion.WEIGHTS] = weights.weights(a, b)
    blocks[Criterion.FEATURES] = weights.features(
        blocks[Dimension.ARCHITECTURE], blocks[Criterion.WEIGHTS], blocks["contract"]
    )
    # A dimension that could not be measured was asked for all the same: without it there is no verdict.
    wanted = {*asked, *(Dimension(name) for name in errors)}
    joint, reason = verdict(blocks, policy, wanted, failed=errors)
    if joint is Verdict.INCONCLUSIVE:
        reason = " ".join([*map(unsafe.sentence, unsafe.seen(errors)), reason])
    found = findings(blocks, policy, wanted) + unsafe.findings(errors, policy, wanted)
    if timed := blocks[Dimension.LATENCY]:
        found += latency.findings(timed, policy, wanted)
    found += changes.findings(errors, policy, wanted)
    if accuracy := blocks[Dimension.ACCURACY]:
        found += contracts.findings(blocks["contract"])
        found += suspicions.findings(accuracy.get("suspicions", ()))
        for name, side in (("a", a), ("b", b)):
            # A claim is about the zoo's own contract.
            if side["contract_overrides"] is None:
                found += claims.findings(name, side["ref"], side["claims"], accuracy, policy)
    result = {
        "verdict": joint,
        "reason": reason,
        "a": a,
        "b": b,
        **{str(name): block for name, block in blocks.items()},
        "errors": errors,
        "policy": policy.to_json(),
    }
    return Answer(joint, found, result)
