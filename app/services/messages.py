"""What a message to a webhook says: the little that tells whether to look further, and where."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from app.domain.webhooks import TEST, Event
from app.errors import ConflictError
from app.services import audits, comparisons, drift, vettings

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from app.db.webhook_tables import WebhookEvent


def body(session: Session, event: WebhookEvent, *, base: str) -> str | None:
    """Return what is sent of an event, JSON; ``base`` begins its links.

    None when there is nothing to tell after all: an audit of a schedule that has not drifted.
    """
    data = _DATA[event.type](session, event.subject_id)
    if data is None:
        return None
    data["links"] = {name: f"{base}/v1/{path}" for name, path in data["links"].items()}
    said = {"type": event.type, "timestamp": event.created_at.isoformat(), "data": data}
    return json.dumps(said, separators=(",", ":"), allow_nan=False)


def _test(session: Session, webhook_id: uuid.UUID) -> dict[str, Any]:
    del session
    return {"webhook_id": str(webhook_id), "links": {"webhook": f"webhooks/{webhook_id}"}}


def _comparison(session: Session, comparison_id: uuid.UUID) -> dict[str, Any]:
    shown = comparisons.summary(comparisons.row(session, comparison_id), None)  # it has ended
    told = {name: shown[name] for name in ("id", "state", "verdict", "a", "b")}
    return told | {"links": {"comparison": f"comparisons/{comparison_id}"}}


def _vetting(session: Session, vetting_id: uuid.UUID) -> dict[str, Any]:
    shown = vettings.show(session, vetting_id)
    told = {name: shown[name] for name in ("id", "state", "verdict", "reason")}
    sides = {name: {"ref": shown[name]["ref"]} for name in ("candidate", "reference")}
    links = {"vetting": f"vettings/{vetting_id}", "comparison": f"comparisons/{shown['comparison_id']}"}
    return told | sides | {"policy": shown["policy"]["name"], "links": links}


def _audit(session: Session, audit_id: uuid.UUID) -> dict[str, Any]:
    shown = audits.show(session, audit_id)
    told = {name: shown[name] for name in ("id", "state", "zoos")}
    counted = {name: (shown["summary"] or {}).get(name) for name in ("comparisons", "verdicts")}
    return told | counted | {"links": {"audit": f"audits/{audit_id}"}}


def _drift(session: Session, audit_id: uuid.UUID) -> dict[str, Any] | None:
    try:
        report = drift.report(session, audit_id)
    except ConflictError:
        return None  # it did not succeed, or is the first of its schedule that did
    if not report["drifted"]:
        return None
    against = report["against"]["id"]
    links = {
        "drift": f"audits/{audit_id}/drift?against={against}",
        "audit": f"audits/{audit_id}",
        "against": f"audits/{against}",
    }
    zoos, summary = report["audit"]["zoos"], report["summary"]
    return {"id": str(audit_id), "against": against, "zoos": zoos, "summary": summary, "links": links}


_DATA: dict[str, Callable[[Session, uuid.UUID], dict[str, Any] | None]] = {
    TEST: _test,
    Event.COMPARISON_ENDED: _comparison,
    Event.VETTING_ENDED: _vetting,
    Event.AUDIT_ENDED: _audit,
    Event.AUDIT_DRIFTED: _drift,
}
