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
    # A page asks for a thousand values, and to ask a mapped object for one is a call. All of a finding is read at once.
    row = vars(finding)
    low, high = row["ci_low"], row["ci_high"]
    return {
        "id": str(row["id"]),
        "comparison_id": str(row["comparison_id"]),
        "audit_id": str(row["audit_id"]) if row["audit_id"] else None,
        "architecture": row["architecture"],
        "a_ref": row["a_ref"],
        "b_ref": row["b_ref"],
        "dimension": row["dimension"],
        "metric": row["metric"],
        "a": finite(row["a"]),
        "b": finite(row["b"]),
        "effect": finite(row["effect"]),
        "ci95": None if low is None or high is None else [finite(low), finite(high)],
        "margin": finite(row["margin"]),
        "magnitude": finite(row["magnitude"]),
        "verdict": row["verdict"],
        "severity": row["severity"],
        "created_at": row["created_at"].isoformat(),
        "details": row["details"],
    }
