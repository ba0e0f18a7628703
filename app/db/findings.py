"""Findings: judged differences, ranked and filtered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from app.db.paging import Order, Page, page
from app.db.tables import Finding
from app.domain.numbers import finite
from app.domain.references import parse

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from app.db.tables import Comparison
    from app.domain.verdicts import Finding as Judged

SORTS: dict[str, Any] = {
    "magnitude": Finding.magnitude,
    "effect": Finding.effect,
    "created_at": Finding.created_at,
}


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


@dataclass(frozen=True)
class Filter:
    """Which findings are wanted; None leaves a field open. ``zoo`` is that of either side."""

    dimension: str | None = None
    metric: str | None = None
    architecture: str | None = None
    zoo: str | None = None
    audit_id: uuid.UUID | None = None
    comparison_id: uuid.UUID | None = None
    verdict: str | None = None


EVERYTHING = Filter()


def find(
    session: Session,
    wanted: Filter = EVERYTHING,
    *,
    sort: str = "-magnitude",
    cursor: str | None = None,
    limit: int,
) -> Page[Finding]:
    """Return a page of the findings that are wanted."""
    equal = {name: value for name, value in vars(wanted).items() if name != "zoo" and value is not None}
    statement = select(Finding).filter_by(**equal)
    if wanted.zoo is not None:
        statement = statement.where(or_(Finding.zoo_a == wanted.zoo, Finding.zoo_b == wanted.zoo))
    return page(session, statement, Order.parse(sort, SORTS, Finding.id), cursor=cursor, limit=limit)
