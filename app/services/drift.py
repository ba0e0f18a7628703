"""What changed from one audit to another: by default since the audit before of the same schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.db import audits, schedules, snapshots
from app.domain import drift
from app.domain.numbers import finite
from app.domain.states import State
from app.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from app.db.tables import Audit
    from app.domain.drift import Alone, Change, Drift, Identity

_BECAUSE = {
    "latency": "measured on another machine, or with other software on it",
    "accuracy": "measured on other items",
}


def report(session: Session, audit_id: uuid.UUID, against: uuid.UUID | None = None) -> dict[str, Any]:
    """Return what changed from ``against`` to an audit as JSON.

    Without ``against`` it is the schedule's latest audit before that succeeded. Raises NotFoundError, and ConflictError
    when one of the two has not succeeded or there is no audit before.
    """
    audit = _succeeded(session, audit_id)
    other = _succeeded(session, _before(session, audit_id) if against is None else against)
    found = drift.drift(snapshots.of_audit(session, other.id), snapshots.of_audit(session, audit.id))
    value: dict[str, Any] = finite(
        {
            "audit": _named(audit),
            "against": _named(other),
            "drifted": bool(found),
            "listings_kept": found.listings_kept,
            "summary": _summary(found),
            **_lists(found),
        }
    )
    return value


def _succeeded(session: Session, audit_id: uuid.UUID) -> Audit:
    audit = audits.get(session, audit_id)
    if audit is None:
        raise NotFoundError(f"There is no audit {audit_id}.")
    state, _ = audits.shown(session, audit)
    if state is not State.SUCCEEDED:
        raise ConflictError(
            f"Audit {audit_id} is {state}; drift is told between audits that have succeeded.", slug="not-succeeded"
        )
    return audit


def _before(session: Session, audit_id: uuid.UUID) -> uuid.UUID:
    run = schedules.run_of(session, audit_id)
    if run is None:
        raise ConflictError(
            f"Audit {audit_id} belongs to no schedule; name the audit to compare it with (against).",
            slug="no-audit-before",
        )
    before = schedules.finished_before(session, run)
    if before is None:
        raise ConflictError(
            f"Audit {audit_id} is the first of its schedule that has succeeded; there is nothing to compare it with "
            "yet. Name another audit (against), or wait for the next one.",
            slug="no-audit-before",
        )
    return before


def _named(audit: Audit) -> dict[str, Any]:
    finished = audit.finished_at.isoformat() if audit.finished_at else None
    return {
        "id": str(audit.id),
        "zoos": audit.zoos,
        "created_at": audit.created_at.isoformat(),
        "finished_at": finished,
    }


def _summary(found: Drift) -> dict[str, int]:
    return {
        "listings_new": len(found.new),
        "listings_gone": len(found.gone),
        "listings_changed": len(found.described),
        "artifacts_changed": len(found.artifacts),
        "pairs_changed": len(found.pairs),
        "findings_appeared": len(found.appeared),
        "findings_vanished": len(found.vanished),
        "findings_moved": len(found.moved),
        "findings_incomparable": sum(found.incomparable.values()),
        "findings_unchanged": found.unchanged,
    }


def _lists(found: Drift) -> dict[str, Any]:
    return {
        "listings": {
            "new": list(found.new),
            "gone": list(found.gone),
            "changed": [{"ref": ref, "fields": _changes(fields)} for ref, fields in found.described.items()],
        },
        "artifacts": [{"ref": ref} | _change(change) for ref, change in found.artifacts.items()],
        "pairs": [{"a_ref": a, "b_ref": b} | _change(change) for (a, b), change in found.pairs.items()],
        "findings": {
            "appeared": [_alone(each, alone) for each, alone in found.appeared.items()],
            "vanished": [_alone(each, alone) for each, alone in found.vanished.items()],
            "moved": [
                each._asdict() | {"why": list(move.why), "before": move.before.to_json(), "after": move.after.to_json()}
                for each, move in found.moved.items()
            ],
            "incomparable": [
                {"dimension": dimension, "findings": number, "because": _BECAUSE[dimension]}
                | {"before": before, "after": after}
                for (dimension, before, after), number in found.incomparable.items()
            ],
        },
    }


def _alone(identity: Identity, alone: Alone) -> dict[str, Any]:
    return identity._asdict() | alone.judged.to_json() | {"lacks": alone.lacks}


def _change(change: Change) -> dict[str, Any]:
    return {"before": change.before, "after": change.after}


def _changes(fields: Mapping[str, Change]) -> list[dict[str, Any]]:
    return [{"field": name} | _change(change) for name, change in fields.items()]
