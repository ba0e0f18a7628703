"""Whole lists as flat rows, for a spreadsheet or a data frame."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.db import comparisons, findings
from app.services import matrix

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from app.db.paging import Listed, Selection
    from app.db.tables import Comparison, Finding

Row = dict[str, Any]

FINDINGS = {
    **dict.fromkeys("id comparison_id audit_id architecture a_ref b_ref dimension metric".split(), str),  # noqa: SIM905
    **dict.fromkeys("a b effect ci95_low ci95_high margin magnitude".split(), float),  # noqa: SIM905
    **dict.fromkeys("verdict severity created_at".split(), str),  # noqa: SIM905
}
COMPARISONS = dict.fromkeys(
    "id audit_id state verdict architecture_key a_ref b_ref error created_at finished_at".split(),  # noqa: SIM905
    str,
)
MATRIX = {
    **dict.fromkeys(("zoo_a", "zoo_b", "dimension"), str),
    **dict.fromkeys(("findings", "inside", "outside", "inconclusive"), int),
    **dict.fromkeys(("worst_finding_id", "worst_a_ref", "worst_b_ref", "worst_metric"), str),
    **dict.fromkeys(("worst_effect", "worst_magnitude"), float),
}
_AT_ONCE = 1000


def of_findings(session: Session, wanted: Selection) -> Iterator[Row]:
    """Yield every finding that is wanted, from its cursor on, in its order."""
    for page in _pages(session, findings.LISTED, wanted):
        yield from map(_finding, page)


def of_comparisons(session: Session, wanted: Selection) -> Iterator[Row]:
    """Yield every comparison that is wanted, from its cursor on, in its order."""
    for page in _pages(session, comparisons.LISTED, wanted):
        states = comparisons.shown_each(session, page)
        session.rollback()
        for row in page:
            yield _comparison(row, *states[row.id])


def of_matrix(session: Session, **filters: Any) -> Iterator[Row]:  # noqa: ANN401 - as ``matrix.show`` takes them
    """Yield every cell of the matrix."""
    for cell in matrix.show(session, **filters)["cells"]:
        worst = {f"worst_{name}": value for name, value in cell["worst"].items()}
        worst["worst_finding_id"] = str(cell["worst"]["finding_id"])
        yield {name: value for name, value in {**cell, **cell["verdicts"], **worst}.items() if name in MATRIX}


def _pages(session: Session, listed: Listed[Any], wanted: Selection) -> Iterator[list[Any]]:
    cursor = wanted.cursor
    while True:
        page = listed.page(session, replace(wanted, cursor=cursor, limit=_AT_ONCE))
        session.expunge_all()
        # No connection is kept while the client reads.
        session.rollback()
        yield page.items
        cursor = page.next_cursor
        if cursor is None:
            return


def _finding(row: Finding) -> Row:
    flat = {"ci95_low": row.ci_low, "ci95_high": row.ci_high, "created_at": row.created_at.isoformat()}
    ids = {name: _id(getattr(row, name)) for name in ("id", "comparison_id", "audit_id")}
    return {name: getattr(row, name, None) for name in FINDINGS} | ids | flat


def _comparison(row: Comparison, state: str, error: dict[str, Any] | None) -> Row:
    return {
        "id": str(row.id),
        "audit_id": _id(row.audit_id),
        "state": str(state),
        "verdict": row.verdict,
        "architecture_key": row.architecture,
        "a_ref": row.a_ref,
        "b_ref": row.b_ref,
        "error": None if error is None else error.get("message"),
        "created_at": row.created_at.isoformat(),
        "finished_at": None if row.finished_at is None else row.finished_at.isoformat(),
    }


def _id(value: uuid.UUID | None) -> str | None:
    return None if value is None else str(value)
