"""The matrix of zoos: how many findings of each pair of zoos there are by dimension and verdict, and the largest."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import bindparam, or_, select

from app.db.matrix_tables import EVERYTHING, FindingCount
from app.db.tables import Finding

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection

    from sqlalchemy.orm import Session


class Count(NamedTuple):
    """How many findings of a verdict two zoos have in a dimension, and the largest magnitude with its finding."""

    zoo_a: str
    zoo_b: str
    dimension: str
    verdict: str
    findings: int
    worst: float
    worst_id: uuid.UUID


def counts(
    session: Session,
    *,
    architecture: str | None = None,
    audit_id: uuid.UUID | None = None,
    dimension: str | None = None,
    zoo: str | None = None,
) -> list[Count]:
    """Return the counts of all findings, of an architecture's or of an audit's (not of both), by zoos and dimension.

    As plain tuples, and ``shown`` likewise: a matrix has hundreds, too many to make mapped objects of.
    """
    scope = EVERYTHING
    if architecture is not None:
        scope = f"architecture:{architecture}"
    elif audit_id is not None:
        scope = f"audit:{audit_id.hex}"
    columns = (getattr(FindingCount, name) for name in Count._fields)
    statement = select(*columns).where(FindingCount.scope == scope, FindingCount.findings > 0)
    if dimension is not None:
        statement = statement.where(FindingCount.dimension == dimension)
    if zoo is not None:
        statement = statement.where(or_(FindingCount.zoo_a == zoo, FindingCount.zoo_b == zoo))
    order = (FindingCount.zoo_a, FindingCount.zoo_b, FindingCount.dimension, FindingCount.verdict)
    return [Count(*row) for row in session.execute(statement.order_by(*order))]


class Shown(NamedTuple):
    """What a cell shows of its largest finding."""

    finding_id: uuid.UUID
    comparison_id: uuid.UUID
    architecture: str | None
    a_ref: str
    b_ref: str
    metric: str
    effect: float | None
    magnitude: float
    verdict: str


_SHOWN = select(Finding.id, *(getattr(Finding, name) for name in Shown._fields[1:])).where(
    Finding.id.in_(bindparam("ids", expanding=True))
)
"""Made once, not for each matrix."""


def shown(session: Session, ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Shown]:
    """Return these findings by id."""
    found = (Shown(*row) for row in session.execute(_SHOWN, {"ids": list(ids)}))
    return {each.finding_id: each for each in found}
