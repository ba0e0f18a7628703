"""Webhooks and their deliveries. A delivery is claimed by one UPDATE, and only its claim stores how it went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import CursorResult, exists, func, select, update

from app.db.clock import present
from app.db.paging import Listed
from app.db.webhook_tables import Webhook, WebhookAttempt, WebhookDelivery, WebhookEvent
from app.domain.webhooks import DeliveryState

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from app.db.paging import Page, Selection


@dataclass(frozen=True)
class Claim:
    """A delivery that this sender may attempt once, for a limited time."""

    delivery_id: uuid.UUID
    webhook_id: uuid.UUID
    event_id: uuid.UUID
    number: int
    """Of this attempt among all of the delivery."""
    tries: int
    """Attempts, with this one, since the delivery was last asked for."""


@dataclass(frozen=True)
class Counts:
    """What is waiting to be told, for how many seconds, and how many webhooks the service gave up."""

    pending: int
    oldest_s: float | None
    disabled: int


def get(session: Session, webhook_id: uuid.UUID, *, to_change: bool = False) -> Webhook | None:
    """Return one webhook; ``to_change`` locks its row until the transaction ends."""
    statement = select(Webhook).where(Webhook.id == webhook_id)
    return session.scalar(statement.with_for_update() if to_change else statement)


LISTED = Listed(
    Webhook, Webhook.id, sorts={"created_at": Webhook.created_at}, sort="-created_at", filters={"enabled": None}
)

DELIVERIES = Listed(
    WebhookDelivery,
    WebhookDelivery.id,
    sorts={"created_at": WebhookDelivery.created_at},
    sort="-created_at",
    filters={"webhook_id": None, "state": None},
)


def delivery(session: Session, webhook_id: uuid.UUID, delivery_id: uuid.UUID) -> WebhookDelivery | None:
    """Return one delivery of a webhook that the session's team may see."""
    statement = select(WebhookDelivery).join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
    return session.scalar(statement.where(WebhookDelivery.id == delivery_id, Webhook.id == webhook_id))


def deliveries(session: Session, webhook_id: uuid.UUID, wanted: Selection) -> Page[WebhookDelivery]:
    """Return a page of the deliveries to a webhook that are wanted."""
    return DELIVERIES.page(session, wanted.within(webhook_id=webhook_id))


def events(session: Session, rows: Collection[WebhookDelivery]) -> dict[uuid.UUID, WebhookEvent]:
    """Return the events of these deliveries, by id."""
    wanted = select(WebhookEvent).where(WebhookEvent.id.in_({row.event_id for row in rows}))
    return {event.id: event for event in session.scalars(wanted)}


def attempts(session: Session, rows: Collection[WebhookDelivery]) -> dict[uuid.UUID, list[WebhookAttempt]]:
    """Return the attempts of each of these deliveries that has any, the first first."""
    wanted = select(WebhookAttempt).where(WebhookAttempt.delivery_id.in_([row.id for row in rows]))
    found: dict[uuid.UUID, list[WebhookAttempt]] = {}
    for attempt in session.scalars(wanted.order_by(WebhookAttempt.number)):
        found.setdefault(attempt.delivery_id, []).append(attempt)
    return found


def again(session: Session, row: WebhookDelivery) -> None:
    """Let a delivery be attempted anew, now, as often as a new one."""
    row.state, row.finished_at = DeliveryState.PENDING, None
    row.earlier_attempts = row.attempts
    row.next_attempt_at = present(session)  # an expression, whose value is read back below
    session.flush()
    session.refresh(row)


def _due(session: Session) -> ColumnElement[bool]:
    return (WebhookDelivery.state == DeliveryState.PENDING) & (WebhookDelivery.next_attempt_at <= present(session))


def waiting(session: Session, *, apart_from: Collection[uuid.UUID]) -> list[uuid.UUID]:
    """Return the enabled webhooks that something is due for, the longest due first, apart from some."""
    statement = (
        select(WebhookDelivery.webhook_id)
        .join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
        .where(_due(session), Webhook.enabled, WebhookDelivery.webhook_id.not_in(apart_from))
        .group_by(WebhookDelivery.webhook_id)
        .order_by(func.min(WebhookDelivery.next_attempt_at))
    )
    return list(session.scalars(statement))


def claim(session: Session, webhook_id: uuid.UUID, *, lease_s: float) -> Claim | None:
    """Claim the delivery to a webhook that has been due the longest; None when nothing is, or it is disabled.

    The attempt is logged as begun. A sender that is not heard of again has it until the lease ends.
    """
    due = select(WebhookDelivery.id).where(WebhookDelivery.webhook_id == webhook_id, _due(session))
    enabled = exists().where(Webhook.id == webhook_id, Webhook.enabled)
    order = (WebhookDelivery.next_attempt_at, WebhookDelivery.id)
    wanted = due.order_by(*order).limit(1).with_for_update(skip_locked=True).scalar_subquery()
    statement = (
        update(WebhookDelivery)
        .where(WebhookDelivery.id == wanted, _due(session), enabled)
        .values(attempts=WebhookDelivery.attempts + 1, next_attempt_at=present(session, lease_s))
        .returning(
            WebhookDelivery.id,
            WebhookDelivery.webhook_id,
            WebhookDelivery.event_id,
            WebhookDelivery.attempts,
            WebhookDelivery.attempts - WebhookDelivery.earlier_attempts,
        )
        .execution_options(synchronize_session=False)
    )
    row = session.execute(statement).one_or_none()
    if row is None:
        return None
    claimed = Claim(*row)
    begun = WebhookAttempt(delivery_id=claimed.delivery_id, number=claimed.number, started_at=present(session))
    session.add(begun)
    session.flush()
    return claimed


def ended(
    session: Session,
    claimed: Claim,
    *,
    status: int | None,
    error: str | None,
    duration_ms: float,
    again_in_s: float | None,
) -> bool:
    """Store how an attempt went; False when its time was over and another has begun.

    Without an error it is delivered; with one it is tried again in so many seconds, or has failed when that is None.
    """
    logged = update(WebhookAttempt).where(
        WebhookAttempt.delivery_id == claimed.delivery_id, WebhookAttempt.number == claimed.number
    )
    session.execute(logged.values(status=status, error=error, duration_ms=duration_ms))
    if error is not None and again_in_s is not None:
        values: dict[str, Any] = {"next_attempt_at": present(session, again_in_s)}
    else:
        state = DeliveryState.DELIVERED if error is None else DeliveryState.FAILED
        values = {"state": state, "next_attempt_at": None, "finished_at": present(session)}
    statement = update(WebhookDelivery).where(
        WebhookDelivery.id == claimed.delivery_id, WebhookDelivery.state == DeliveryState.PENDING
    )
    if error is not None:
        # What was delivered is delivered; what failed says nothing once another attempt has begun.
        statement = statement.where(WebhookDelivery.attempts == claimed.number)
    result = session.execute(statement.values(**values).execution_options(synchronize_session=False))
    assert isinstance(result, CursorResult)  # noqa: S101 - an UPDATE has a row count
    return result.rowcount == 1


def counts(session: Session) -> Counts:
    """Count what is pending for enabled webhooks, and the webhooks that the service disabled."""
    pending, oldest = session.execute(
        select(func.count(), func.min(WebhookDelivery.created_at))
        .join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
        .where(WebhookDelivery.state == DeliveryState.PENDING, Webhook.enabled)
    ).one()
    disabled = session.scalar(select(func.count()).where(Webhook.disabled_reason.is_not(None)))
    at = session.execute(select(present(session))).scalar_one()
    return Counts(pending, None if oldest is None else max(0.0, (at - oldest).total_seconds()), disabled or 0)
