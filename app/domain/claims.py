"""Claims against measurements: a zoo's published accuracy beside what was measured. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.domain.policies import Dimension
from app.domain.verdicts import Finding, Severity, place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.domain.policies import Policy

_METRICS = ("top1", "top5")


def findings(
    side: str, ref: str, claims: Iterable[dict[str, Any]], block: dict[str, Any], policy: Policy
) -> list[Finding]:
    """Judge the claims about one side (``a`` or ``b``) of a measured accuracy block.

    The effect is what was measured less what is claimed, with the Wilson interval of the measurement; inside the
    policy's accuracy margin a claim holds. A claim is about the zoo's own data: ``details`` name the data set measured.
    """
    found = []
    for claim in claims:
        metric = claim["metric"]
        if metric not in _METRICS or not block.get(metric):
            continue
        measured, claimed = block[metric][side], claim["value"]
        low, high = (end - claimed for end in block[metric][f"{side}_ci95"])
        found.append(
            Finding(
                Dimension.ACCURACY,
                f"claim {metric} of {side.upper()}",
                measured,
                claimed,
                measured - claimed,
                (low, high),
                policy.accuracy_margin,
                place((low, high), policy.accuracy_margin),
                Severity.ADVISORY,
                {"ref": ref, "source": claim["source"], "dataset": block.get("dataset"), "items": block["items"]},
            )
        )
    return found
