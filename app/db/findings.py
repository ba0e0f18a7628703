"""Findings: judged differences, ranked and filtered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, select

from app.db.paging import Listed
from app.db.tables import Finding
from app.domain.numbers import finite
from app.domain.references import parse

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from app.db.tables import Comparison
    from app.domain.verdicts import Finding as Judged


def _of_zoo(zoo: str) -> tuple[ColumnElement[bool], ...]:
    return (Finding.zoo_a == zoo, and_(Finding.zoo_b == zoo, Finding.zoo_a != zoo))


def _of_listing(ref: str) -> tuple[ColumnElement[bool], ...]:
    return (Finding.a_ref == ref, and_(Finding.b_ref == ref, Finding.a_ref != ref))


LISTED = Listed(
    Finding,
    Finding.id,
    sorts={"magnitude": Finding.magnitude, "effect": Finding.effect, "created_at": Finding.created_at},
    sort="-magnitude",
    filters={
        "dimension": None,
        "metric": None,
        "architecture": None,
        "verdict": None,
        "severity": None,
        "zoo": _of_zoo,
        "zoo_a": None,
        "zoo_b": None,
        "ref": _of_listing,
        "a_ref": None,
        "b_ref": None,
        "audit_id": None,
        "comparison_id": None,
        "since": lambda time: Finding.created_at >= time,
        "until": lambda time: Finding.created_at < time,
    },
)


def rows(comparison: Comparison, findings: Iterable[Judged]) -> list[Finding]:
    """Return the rows of a comparison's findings, in order."""
    zoo_a, zoo_b = parse(comparison.a_ref).zoo, parse(comparison.b_ref).zoo
    return [
        Finding(
            comparison_id=comparison.id,
            audit_id=comparison.audit_id,
            architecture=comparison.architecture,
            a_ref=comparison.a_ref,
            b_ref=comparison.b_ref,
            zoo_a=zoo_a,
            zoo_b=zoo_b,
            dimension=finding.dimension,
            metric=finding.metric,
            a=finding.a,
            b=finding.b,
            effect=finding.effect,
            ci_low=finding.ci95[0] if finding.ci95 else None,
            ci_high=finding.ci95[1] if finding.ci95 else None,
            margin=finding.margin,
            magnitude=finding.magnitude,
            verdict=finding.verdict,
            severity=finding.severity,
            details=finite(finding.details),
        )
        for finding in findings
    ]


def of_comparison(session: Session, comparison_id: uuid.UUID) -> list[Finding]:
    """Return a comparison's findings in the order in which they were judged."""
    statement = select(Finding).where(Finding.comparison_id == comparison_id)
    return list(session.scalars(statement.order_by(Finding.id)))
