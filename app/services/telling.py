"""Telling webhooks: the message of an attempt, and what its answer leads to. The caller owns the transaction."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.db import webhooks
from app.db.schedules import clock
from app.db.webhook_tables import WebhookEvent
from app.domain.webhooks import delay_s, failing_too_long, retry_after_s
from app.services import messages

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.orm import Session

    from app.db.webhook_tables import Webhook
    from app.db.webhooks import Claim
    from app.settings import Settings

_GONE = 410
_ACCEPTED = range(200, 300)
_REDIRECTED = range(300, 400)


@dataclass(frozen=True)
class Message:
    """What one attempt sends, and where to."""

    id: str
    url: str
    secrets: list[str]
    body: str


def waiting(session: Session, *, apart_from: Collection[uuid.UUID]) -> list[uuid.UUID]:
    """Return the enabled webhooks that something is due for, the longest due first, apart from some."""
    return webhooks.waiting(session, apart_from=apart_from)


def counts(session: Session) -> webhooks.Counts:
    """Count what waits to be told, and the webhooks that were given up."""
    return webhooks.counts(session)


def claim(session: Session, webhook_id: uuid.UUID, *, lease_s: float) -> Claim | None:
    """Claim the delivery to a webhook that has been due the longest; None when nothing is due."""
    return webhooks.claim(session, webhook_id, lease_s=lease_s)


def message(session: Session, settings: Settings, claimed: Claim) -> Message | None:
    """Return what is to be sent; None when there is nothing to tell after all, and the event is forgotten."""
    webhook = webhooks.get(session, claimed.webhook_id)
    event = session.get(WebhookEvent, claimed.event_id, with_for_update=True)
    if webhook is None or event is None:
        return None
    if event.body is None:
        event.body = messages.body(session, event, base=(settings.public_url or "").rstrip("/"))
    if event.body is None:
        session.delete(event)
        return None
    return Message(message_id(event), webhook.url, valid_secrets(webhook, clock(session)), event.body)


def message_id(event: WebhookEvent) -> str:
    """Return the id that every message of an event has."""
    return f"msg_{event.id.hex}"


def valid_secrets(webhook: Webhook, at: datetime) -> list[str]:
    """Return the secrets that a message is signed with at a time, the newest first."""
    old, until = webhook.old_secret, webhook.old_secret_until
    return [webhook.secret] if old is None or until is None or until <= at else [webhook.secret, old]


def refusal(status: int | None) -> str | None:
    """Say why a status means that a message was not accepted; None when it was, or there is no status."""
    if status is None or status in _ACCEPTED:
        return None
    if status in _REDIRECTED:
        return f"The receiver answered {status}, a redirect, which is not followed; give the webhook the right address."
    return f"The receiver answered {status}."


def attempted(
    session: Session,
    claimed: Claim,
    *,
    status: int | None,
    retry_after: str | None,
    error: str | None,
    duration_ms: float,
) -> str | None:
    """Store how an attempt went, with the next one if there is one; return why the webhook is disabled by it, if it is.

    ``retry_after`` is the answer's header; without an error the message was accepted.
    """
    at = clock(session)
    asked = retry_after_s(retry_after, at)
    again_in_s = delay_s(claimed.tries, draw=random.random(), retry_after_s=asked)  # noqa: S311 - keeps no secret
    stored = webhooks.ended(
        session,
        claimed,
        status=status,
        error=error,
        duration_ms=duration_ms,
        again_in_s=None if status == _GONE else again_in_s,
    )
    webhook = webhooks.get(session, claimed.webhook_id, to_change=True)
    if webhook is None or not stored:
        return None
    if error is None:
        webhook.failing_since = None
        return None
    webhook.failing_since = webhook.failing_since or at
    reason = _why_disable(webhook.failing_since, at, status, error)
    if reason is None or not webhook.enabled:
        return None
    webhook.enabled, webhook.disabled_reason, webhook.changed_at = False, reason, at
    return reason


def _why_disable(since: datetime, at: datetime, status: int | None, error: str) -> str | None:
    if status == _GONE:
        return "The receiver answered 410: it wants no more messages."
    if failing_too_long(since, at):
        return f"No message has been accepted since {since:%Y-%m-%d %H:%M} UTC. {error}"[:500]
    return None
