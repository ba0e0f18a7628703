"""The tests of a whole audit together: adjusted p-values, and which models its accuracies tell apart."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from app.db.tables import Finding
from app.domain.policies import Dimension
from app.domain.significance import adjusted, indistinguishable
from app.domain.verdicts import SIGNIFICANCE

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

_RANKED_BY = "top1"


def conclude(session: Session, audit_id: uuid.UUID) -> list[dict[str, Any]]:
    """Write the adjusted p-value of every accuracy test of an audit into its finding; return the groups.

    ``q_value`` is the p-value under Benjamini-Hochberg over all of the audit's accuracy tests. A group is
    ``{"architecture", "dataset", "models": [{"ref", "top1"}, ...]}``: models of one architecture key (null: all of a
    recorded audit) that no test tells apart at a false discovery rate of 5 %, the most accurate first. What was not
    compared is not told apart.
    """
    wanted = select(Finding).where(Finding.audit_id == audit_id, Finding.dimension == Dimension.ACCURACY)
    tests = [row for row in session.scalars(wanted.order_by(Finding.id)) if "p_value" in row.details]
    for row, q_value in zip(tests, adjusted([row.details["p_value"] for row in tests]), strict=True):
        row.details = row.details | {"q_value": q_value}
    session.flush()
    ranked: dict[Any, list[Finding]] = defaultdict(list)
    for row in tests:
        if row.metric == _RANKED_BY:
            ranked[row.architecture, row.details["dataset"]].append(row)
    return [group for key, rows in ranked.items() for group in _groups(key, rows)]


def _groups(key: tuple[str | None, str], rows: Sequence[Finding]) -> list[dict[str, Any]]:
    top1 = {row.a_ref: row.a for row in rows} | {row.b_ref: row.b for row in rows}
    names = sorted(top1, key=lambda ref: (-(top1[ref] or 0.0), ref))
    apart = [(row.a_ref, row.b_ref) for row in rows if row.details["q_value"] <= SIGNIFICANCE]
    architecture, dataset = key
    return [
        {
            "architecture": architecture,
            "dataset": dataset,
            "models": [{"ref": ref, "top1": top1[ref]} for ref in group],
        }
        for group in indistinguishable(names, apart)
    ]
