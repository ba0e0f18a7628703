"""Judged differences, ranked and filtered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.db import findings
from app.domain.numbers import finite

if TYPE_CHECKING:
    import uuid

    from sqlalchemy.orm import Session

    from app.db.tables import Finding

DEFAULT_SORT = "-magnitude"


def find(
    session: Session,
    *,
    dimension: str | None = None,
    metric: str | None = None,
    architecture: str | None = None,
    zoo: str | None = None,
    audit_id: uuid.UUID | None = None,
    comparison_id: uuid.UUID | None = None,
    verdict: str | None = None,
    sort: str = DEFAULT_SORT,
    cursor: str | None = None,
    limit: int = 50,
) -> dict[str, Any]:
    """Return a page of findings as JSON. ``zoo`` is that of either side; rows without the sort value come last."""
    found = findings.find(
        session,
        dimension=dimension,
        metric=metric,
        architecture=architecture,
        zoo=zoo,
        audit_id=audit_id,
        comparison_id=comparison_id,
        verdict=verdict,
        sort=sort,
        cursor=cursor,
        limit=limit,
    )
    return found.map(to_json)


def to_json(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON, with what it is about."""
    ci95 = None if finding.ci_low is None or finding.ci_high is None else [finding.ci_low, finding.ci_high]
    value: dict[str, Any] = finite(
        {
            "id": str(finding.id),
            "comparison_id": str(finding.comparison_id),
            "audit_id": str(finding.audit_id) if finding.audit_id else None,
            "architecture": finding.architecture,
            "a_ref": finding.a_ref,
            "b_ref": finding.b_ref,
            "dimension": finding.dimension,
            "metric": finding.metric,
            "a": finding.a,
            "b": finding.b,
            "effect": finding.effect,
            "ci95": ci95,
            "margin": finding.margin,
            "magnitude": finding.magnitude,
            "verdict": finding.verdict,
            "severity": finding.severity,
            "details": finding.details,
            "created_at": finding.created_at.isoformat(),
        }
    )
    return value
