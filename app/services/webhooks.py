"""Webhooks: keep them, and see how telling them went. The caller owns the transaction."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app.db import outbox, webhooks
from app.db.schedules import clock
from app.db.teams import check_own
from app.db.webhook_tables import Webhook
from app.domain.ids import new_id
from app.domain.webhooks import DeliveryState, may_go_to, new_secret
from app.errors import ConflictError, InvalidError, NotFoundError
from app.services.submission import Caller, earlier
from app.services.telling import message_id, valid_secrets

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from app.db.paging import Selection
    from app.db.webhook_tables import WebhookAttempt, WebhookDelivery, WebhookEvent
    from app.settings import Settings

_LOST = "Its sender ended before the answer came."


def create(session: Session, settings: Settings, request: dict[str, Any], caller: Caller) -> dict[str, Any]:
    """Store a webhook ``{url, events, description, enabled}``; return it as JSON, this once with its secret.

    Raises InvalidError for an address that no message may be sent to.
    """
    webhook_id = new_id()
    if before := earlier(session, caller, kind="webhook", request=request, resource_id=webhook_id):
        return show(session, before) | {"secret": None}
    _check(settings, request["url"])
    row = Webhook(id=webhook_id, secret=new_secret(), **request)
    session.add(row)
    session.flush()
    return _to_json(session, row) | {"secret": row.secret}


def _check(settings: Settings, url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidError(f"{url!r} is no address: {error}.", slug="invalid-url") from error
    schemes = ("https", "http") if settings.webhook_http else ("https",)
    if parts.scheme not in schemes or not host or parts.username is not None or parts.fragment:
        allowed = "https or http" if settings.webhook_http else "https"
        raise InvalidError(
            f"{url!r} is not an address for a webhook; write {allowed}, a host, and no user, password or fragment.",
            slug="invalid-url",
        )
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return  # a name, which is judged whenever a message is sent
    if not may_go_to(address, settings.webhook_networks):
        raise InvalidError(
            f"{host} is not an address of the public Internet; webhooks go there only when the setting "
            "ZOOAUDIT_WEBHOOK_NETWORKS has its network.",
            slug="forbidden-address",
        )


def change(session: Session, settings: Settings, webhook_id: uuid.UUID, changed: dict[str, Any]) -> dict[str, Any]:
    """Change some fields of a webhook and return it as JSON; raises as ``create`` does.

    Enabling it again forgets why it was disabled, and sends what was still waiting.
    """
    row = _row(session, webhook_id, to_change=True)
    if "url" in changed:
        _check(settings, changed["url"])
    for name, value in changed.items():
        setattr(row, name, value)
    if changed.get("enabled"):
        row.disabled_reason = row.failing_since = None
    row.changed_at = clock(session)
    session.flush()
    return _to_json(session, row)


def rotate(session: Session, webhook_id: uuid.UUID, *, overlap_s: float) -> dict[str, Any]:
    """Give a webhook a new secret; messages are signed with the one before too, for so long.

    Returns the webhook as JSON, this once with its secret.
    """
    row = _row(session, webhook_id, to_change=True)
    at = clock(session)
    row.old_secret, row.old_secret_until = row.secret, at + timedelta(seconds=overlap_s)
    row.secret, row.changed_at = new_secret(), at
    session.flush()
    return _to_json(session, row) | {"secret": row.secret}


def remove(session: Session, webhook_id: uuid.UUID) -> None:
    """Delete a webhook with its log. Raises NotFoundError."""
    session.delete(_row(session, webhook_id, to_change=True))
    session.flush()


def show(session: Session, webhook_id: uuid.UUID) -> dict[str, Any]:
    """Return a webhook as JSON; raises NotFoundError."""
    return _to_json(session, _row(session, webhook_id))


def find(session: Session, wanted: Selection) -> dict[str, Any]:
    """Return a page of the webhooks that are wanted as JSON."""
    return webhooks.LISTED.page(session, wanted).map(lambda row: _to_json(session, row))


def test(session: Session, webhook_id: uuid.UUID) -> dict[str, Any]:
    """Send a webhook a message of type ``webhook.test``; return its delivery as JSON.

    Raises NotFoundError, and ConflictError when the webhook is disabled.
    """
    row = _enabled(session, webhook_id)
    return _deliveries(session, [outbox.test(session, row)])[0]


def deliveries(session: Session, webhook_id: uuid.UUID, wanted: Selection) -> dict[str, Any]:
    """Return a page of a webhook's deliveries as JSON, each with its attempts; raises NotFoundError."""
    _row(session, webhook_id)
    found = webhooks.deliveries(session, webhook_id, wanted)
    return {"items": _deliveries(session, found.items), "next_cursor": found.next_cursor}


def delivery(session: Session, webhook_id: uuid.UUID, delivery_id: uuid.UUID) -> dict[str, Any]:
    """Return a delivery as JSON, with its attempts; raises NotFoundError."""
    _row(session, webhook_id)
    return _deliveries(session, [_delivery(session, webhook_id, delivery_id)])[0]


def redeliver(session: Session, webhook_id: uuid.UUID, delivery_id: uuid.UUID) -> dict[str, Any]:
    """Send the message of a delivery that has ended once more, with the same id; return the delivery as JSON.

    Raises NotFoundError, and ConflictError when the webhook is disabled or the delivery has not ended.
    """
    _enabled(session, webhook_id)
    row = _delivery(session, webhook_id, delivery_id)
    if row.state == DeliveryState.PENDING:
        raise ConflictError(f"Delivery {delivery_id} has not ended yet; it will be tried again.", slug="not-ended")
    webhooks.again(session, row)
    return _deliveries(session, [row])[0]


def _row(session: Session, webhook_id: uuid.UUID, *, to_change: bool = False) -> Webhook:
    row = webhooks.get(session, webhook_id, to_change=to_change)
    if row is None:
        raise NotFoundError(f"There is no webhook {webhook_id}.")
    return row


def _enabled(session: Session, webhook_id: uuid.UUID) -> Webhook:
    row = _row(session, webhook_id)
    check_own(session, row)
    if not row.enabled:
        raise ConflictError(f"Webhook {webhook_id} is disabled; enable it first.", slug="webhook-disabled")
    return row


def _delivery(session: Session, webhook_id: uuid.UUID, delivery_id: uuid.UUID) -> WebhookDelivery:
    row = webhooks.delivery(session, webhook_id, delivery_id)
    if row is None:
        raise NotFoundError(f"Webhook {webhook_id} has no delivery {delivery_id}.")
    return row


def _to_json(session: Session, row: Webhook) -> dict[str, Any]:
    two = len(valid_secrets(row, clock(session))) > 1
    return {
        "id": str(row.id),
        "url": row.url,
        "events": row.events,
        "description": row.description,
        "enabled": row.enabled,
        "disabled_reason": row.disabled_reason,
        "failing_since": row.failing_since.isoformat() if row.failing_since else None,
        "old_secret_until": row.old_secret_until.isoformat() if two and row.old_secret_until else None,
        "created_at": row.created_at.isoformat(),
        "changed_at": row.changed_at.isoformat(),
    }


def _deliveries(session: Session, rows: Sequence[WebhookDelivery]) -> list[dict[str, Any]]:
    events, attempts = webhooks.events(session, rows), webhooks.attempts(session, rows)
    return [_delivery_json(row, events[row.event_id], attempts.get(row.id, [])) for row in rows]


def _delivery_json(row: WebhookDelivery, event: WebhookEvent, attempts: Sequence[WebhookAttempt]) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "message_id": message_id(event),
        "type": event.type,
        "subject_id": str(event.subject_id),
        "state": row.state,
        "next_attempt_at": row.next_attempt_at.isoformat() if row.next_attempt_at else None,
        "attempts": [_attempt_json(each, latest=each.number == row.attempts) for each in attempts],
        "created_at": row.created_at.isoformat(),
        "finished_at": row.finished_at.isoformat() if row.finished_at else None,
    }


def _attempt_json(row: WebhookAttempt, *, latest: bool) -> dict[str, Any]:
    lost = row.duration_ms is None and not latest
    return {
        "number": row.number,
        "started_at": row.started_at.isoformat(),
        "duration_ms": row.duration_ms,
        "status": row.status,
        "error": _LOST if lost else row.error,
    }
