"""How the findings of a listing, or of a pair, went over time."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from app.db import findings, snapshots
from app.db.paging import Selection
from app.domain.drift import Judged, comparable, reasons

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from app.db.tables import Finding


def show(session: Session, filters: Mapping[str, Any], *, limit: int) -> dict[str, Any]:
    """Return the findings that the filters of the list leave, the latest ``limit``, as series over time; JSON.

    A series is one pair, dimension and metric. Each point says why it counts as moved from the one before
    (``drift.reasons``), or that the two rest on other machines or items; the first says nothing.
    """
    page = findings.LISTED.page(session, Selection(filters, "-created_at", limit=limit))
    rests_on = snapshots.bases(session, {row.comparison_id for row in page.items})
    series: dict[tuple[str, str, str, str], list[Finding]] = {}
    for row in reversed(page.items):
        series.setdefault((row.a_ref, row.b_ref, row.dimension, row.metric), []).append(row)
    names = ("a_ref", "b_ref", "dimension", "metric")
    return {
        "series": [
            {**dict(zip(names, key, strict=True)), "points": _points(key[2], rows, rests_on)}
            for key, rows in sorted(series.items())
        ],
        "truncated": page.next_cursor is not None,
    }


def _points(
    dimension: str, rows: list[Finding], rests_on: Mapping[tuple[uuid.UUID, str], str | None]
) -> list[dict[str, Any]]:
    judged = [_judged(row, rests_on.get((row.comparison_id, dimension))) for row in rows]
    moved = [(), *(_moved(dimension, before, after) for before, after in pairwise(judged))]
    return [
        {
            "created_at": row.created_at,
            "finding_id": row.id,
            "comparison_id": row.comparison_id,
            "audit_id": row.audit_id,
            **point.to_json(),
            "moved": list(why),
        }
        for row, point, why in zip(rows, judged, moved, strict=True)
    ]


def _moved(dimension: str, before: Judged, after: Judged) -> tuple[str, ...]:
    return reasons(dimension, before, after) if comparable(dimension, before, after) else ("incomparable",)


def _judged(row: Finding, basis: str | None) -> Judged:
    interval = None if row.ci_low is None or row.ci_high is None else (row.ci_low, row.ci_high)
    return Judged(row.verdict, row.effect, interval, row.margin, row.a, row.b, basis)
