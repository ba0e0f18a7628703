"""Suspicions of the engine as findings: right answers at the wrong class. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.domain.policies import Dimension
from app.domain.verdicts import Finding, Place, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable


def findings(suspicions: Iterable[dict[str, Any]]) -> list[Finding]:
    """Return one finding a suspicion; ``a`` and ``b`` are the share of the moved classes' items that it explains.

    They have no margin: labels or classes in another order are no matter of degree.
    """
    return [
        Finding(
            Dimension.ACCURACY,
            each["kind"],
            _explained(each, "a"),
            _explained(each, "b"),
            None,
            None,
            None,
            Place.OUTSIDE,
            Severity.ADVISORY,
            dict(each),
        )
        for each in suspicions
    ]


def sentence(suspicion: dict[str, Any]) -> str:
    """Say what is suspected, of which side."""
    sides = {"a": "A", "b": "B", "both": "both sides"}[suspicion["side"]]
    if suspicion["shift"] is not None:
        what = f"most right answers stand at label {suspicion['shift']:+d}"
    else:
        pairs = [f"{each['label']} as {each['answered']}" for each in suspicion["classes"]]
        more = "" if len(pairs) == suspicion["moved"] else f" and {suspicion['moved'] - len(pairs)} more"
        what = f"answered are {', '.join(pairs)}{more}"
    shares = [f"{each['explained']:,} of {each['items']:,}" for each in suspicion["evidence"].values()]
    return f"{suspicion['kind']} of {sides}: {what} ({'; '.join(shares)} items)"


def _explained(suspicion: dict[str, Any], side: str) -> float | None:
    evidence = suspicion["evidence"].get(side)
    return None if evidence is None else evidence["explained"] / evidence["items"]
