"""A data set that changed between the runs of two models, as a finding. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.domain.policies import Dimension
from app.domain.verdicts import Finding, Place, Severity

if TYPE_CHECKING:
    from collections.abc import Collection

    from app.domain.policies import Policy

_CHANGED = "dataset-changed"


def seen(errors: dict[str, Any]) -> bool:
    """Whether a comparison could not measure accuracy because its data set changed: that is an answer of its own."""
    return (errors.get(Dimension.ACCURACY) or {}).get("code") == _CHANGED


def findings(errors: dict[str, Any], policy: Policy, asked: Collection[Dimension]) -> list[Finding]:
    """Return the finding ``data set``, with the items and digests that were expected and seen; none if none changed."""
    if not seen(errors):
        return []
    severity = Severity.CRITICAL if policy.decides(Dimension.ACCURACY, frozenset(asked)) else Severity.ADVISORY
    evidence = errors[Dimension.ACCURACY]["evidence"]
    return [
        Finding(
            Dimension.ACCURACY, "data set", None, None, None, None, None, Place.INCONCLUSIVE, severity, dict(evidence)
        )
    ]
