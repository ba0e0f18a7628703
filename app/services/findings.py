"""Judged differences, ranked and filtered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.db import findings
from app.domain.numbers import finite

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.db.paging import Selection
    from app.db.tables import Finding


def find(session: Session, wanted: Selection) -> dict[str, Any]:
    """Return a page of the findings that are wanted as JSON; rows without the sort value come last."""
    return findings.LISTED.page(session, wanted).map(to_json)


def to_json(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON, with what it is about."""
    ci95 = None if finding.ci_low is None or finding.ci_high is None else [finding.ci_low, finding.ci_high]
    return {
        "id": str(finding.id),
        "comparison_id": str(finding.comparison_id),
        "audit_id": str(finding.audit_id) if finding.audit_id else None,
        "architecture": finding.architecture,
        "a_ref": finding.a_ref,
        "b_ref": finding.b_ref,
        "dimension": finding.dimension,
        "metric": finding.metric,
        "a": finite(finding.a),
        "b": finite(finding.b),
        "effect": finite(finding.effect),
        "ci95": finite(ci95),
        "margin": finite(finding.margin),
        "magnitude": finite(finding.magnitude),
        "verdict": finding.verdict,
        "severity": finding.severity,
        "created_at": finding.created_at.isoformat(),
        "details": finding.details,
    }
