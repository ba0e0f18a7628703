"""What an audit found, as ``app.domain.drift`` compares it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from app.db import audit_listings
from app.db.tables import Comparison, Finding
from app.domain.drift import Identity, Judged, Snapshot
from app.domain.policies import Dimension

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

_BASES = {
    Dimension.LATENCY: ("latency", "machine", "fingerprint"),
    Dimension.ACCURACY: ("accuracy", "items_digest"),
}
"""Where the answer to a comparison says what the numbers of a dimension rest on."""


def of_audit(session: Session, audit_id: uuid.UUID) -> Snapshot:
    """Return what an audit found."""
    pairs: dict[tuple[str, str], str] = {}
    artifacts: dict[str, str] = {}
    bases: dict[tuple[uuid.UUID, str], str | None] = {}
    columns = [
        Comparison.id,
        Comparison.a_ref,
        Comparison.b_ref,
        Comparison.state,
        Comparison.verdict,
        # Of the answers, which are long, only what is needed.
        *(Comparison.result[(side, "artifact", "sha256")].as_string() for side in ("a", "b")),
        *(Comparison.result[path].as_string() for path in _BASES.values()),
    ]
    for found, a_ref, b_ref, state, verdict, *rest in session.execute(_of(select(*columns), audit_id)):
        pairs[a_ref, b_ref] = verdict or state
        artifacts |= {ref: sha for ref, sha in zip((a_ref, b_ref), rest[:2], strict=True) if sha is not None}
        bases |= {(found, dimension): basis for dimension, basis in zip(_BASES, rest[2:], strict=True)}
    return Snapshot(
        listings=audit_listings.of_audit(session, audit_id) or None,
        artifacts=artifacts,
        pairs=pairs,
        findings=_findings(session, audit_id, bases),
    )


def bases(session: Session, comparison_ids: Collection[uuid.UUID]) -> dict[tuple[uuid.UUID, str], str | None]:
    """Return what the numbers of these comparisons rest on, by comparison and dimension."""
    columns = [Comparison.result[path].as_string() for path in _BASES.values()]
    rows = session.execute(select(Comparison.id, *columns).where(Comparison.id.in_(comparison_ids)))
    return {(found, dimension): basis for found, *rest in rows for dimension, basis in zip(_BASES, rest, strict=True)}


def _of(statement: Select[Any], audit_id: uuid.UUID) -> Select[Any]:
    return statement.where(Comparison.audit_id == audit_id).order_by(Comparison.a_ref, Comparison.b_ref)


def _findings(
    session: Session, audit_id: uuid.UUID, bases: dict[tuple[uuid.UUID, str], str | None]
) -> dict[Identity, Judged]:
    names = "comparison_id a_ref b_ref dimension metric verdict effect ci_low ci_high margin a b".split()  # noqa: SIM905
    statement = select(*(getattr(Finding, name) for name in names)).where(Finding.audit_id == audit_id)
    seen: Counter[Identity] = Counter()
    found: dict[Identity, Judged] = {}
    for row in session.execute(statement.order_by(Finding.id)):
        identity = Identity(row.a_ref, row.b_ref, row.dimension, row.metric)
        seen[identity] += 1
        if seen[identity] > 1:
            # A comparison may find the same more than once, each time about something else: kept apart by order.
            identity = identity._replace(metric=f"{row.metric} {seen[identity]}")
        interval = None if row.ci_low is None or row.ci_high is None else (row.ci_low, row.ci_high)
        basis = bases.get((row.comparison_id, row.dimension))
        found[identity] = Judged(row.verdict, row.effect, interval, row.margin, row.a, row.b, basis)
    return found
