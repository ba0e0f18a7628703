"""The matrix of zoos: how many findings of each pair of zoos there are by dimension and verdict, and the largest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from app.db.matrix_tables import EVERYTHING, FindingCount
from app.db.tables import Finding

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection, Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

COUNTED = ("zoo_a", "zoo_b", "dimension", "verdict", "findings", "worst", "worst_id")
"""What a count says: how many findings, and the largest magnitude with its finding."""


def counts(
    session: Session,
    *,
    architecture: str | None = None,
    audit_id: uuid.UUID | None = None,
    dimension: str | None = None,
    zoo: str | None = None,
) -> Sequence[Row[Any]]:
    """Return the counts of all findings, of an architecture's or of an audit's (not of both), by zoos and dimension.

    As rows of ``COUNTED``, and ``shown`` likewise: a matrix has hundreds, too many to make objects of.
    """
    scope = EVERYTHING
    if architecture is not None:
        scope = f"architecture:{architecture}"
    elif audit_id is not None:
        scope = f"audit:{audit_id.hex}"
    columns = (getattr(FindingCount, name) for name in COUNTED)
    statement = select(*columns).where(FindingCount.scope == scope, FindingCount.findings > 0)
    if dimension is not None:
        statement = statement.where(FindingCount.dimension == dimension)
    if zoo is not None:
        statement = statement.where(or_(FindingCount.zoo_a == zoo, FindingCount.zoo_b == zoo))
    order = (FindingCount.zoo_a, FindingCount.zoo_b, FindingCount.dimension, FindingCount.verdict)
    return session.execute(statement.order_by(*order)).all()


SHOWN = ("comparison_id", "architecture", "a_ref", "b_ref", "metric", "effect", "magnitude", "verdict")
"""What a cell shows of its largest finding."""


def shown(session: Session, ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Row[Any]]:
    """Return these findings by id, as rows of ``SHOWN``."""
    columns = (getattr(Finding, name) for name in SHOWN)
    rows = session.execute(select(Finding.id, *columns).where(Finding.id.in_(ids)))
    return {row.id: row for row in rows}
