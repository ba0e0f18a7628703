"""Writes down what webhooks are to be told, in the transaction in which it happens: told if and only if it did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exists, select

from app.db.clock import present
from app.db.schedule_tables import ScheduledRun
from app.db.tables import Audit, Comparison
from app.db.teams import as_team
from app.db.vetting_tables import Vetting
from app.db.webhook_tables import Webhook, WebhookDelivery, WebhookEvent
from app.domain.ids import new_id
from app.domain.teams import SHARED
from app.domain.webhooks import TEST, DeliveryState, Event

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

    from sqlalchemy.orm import Session


def comparison_ended(session: Session, comparison_id: uuid.UUID, audit_id: uuid.UUID | None) -> None:
    """A comparison has just ended, and with it the vettings that rest on it."""
    with as_team(session, None):
        webhooks = _enabled(session)
        if not webhooks:
            return
        if audit_id is None:
            _tell(session, webhooks, Event.COMPARISON_ENDED, session.get_one(Comparison, comparison_id))
        for vetting in session.scalars(select(Vetting).where(Vetting.comparison_id == comparison_id)).all():
            _tell(session, webhooks, Event.VETTING_ENDED, vetting)


def audit_ended(session: Session, audit_id: uuid.UUID) -> None:
    """An audit has just ended. Whether one of a schedule has drifted is found out when it is told."""
    with as_team(session, None):
        webhooks = _enabled(session)
        if not webhooks:
            return
        audit = session.get_one(Audit, audit_id)
        _tell(session, webhooks, Event.AUDIT_ENDED, audit)
        if session.scalar(select(exists().where(ScheduledRun.audit_id == audit_id))):
            _tell(session, webhooks, Event.AUDIT_DRIFTED, audit)


def vetting_ended(session: Session, vetting_id: uuid.UUID) -> None:
    """A vetting was asked for of a comparison that had ended."""
    with as_team(session, None):
        _tell(session, _enabled(session), Event.VETTING_ENDED, session.get_one(Vetting, vetting_id))


def test(session: Session, webhook: Webhook) -> WebhookDelivery:
    """Somebody asks for a message to a webhook, whatever events it is told of; return its delivery."""
    event = WebhookEvent(id=new_id(), type=TEST, subject_id=webhook.id)
    session.add(event)
    (delivery,) = _deliver(session, event, [webhook])
    session.refresh(delivery)
    return delivery


def _enabled(session: Session) -> list[Webhook]:
    return list(session.scalars(select(Webhook).where(Webhook.enabled)))


def _tell(session: Session, webhooks: Iterable[Webhook], kind: Event, subject: Comparison | Audit | Vetting) -> None:
    """Tell the webhooks that want it of what has happened to a subject, those that may see it."""
    seeing = [webhook for webhook in webhooks if subject.team in {SHARED, webhook.team}]
    wanted = [webhook for webhook in seeing if kind in webhook.events]
    if wanted:
        event = WebhookEvent(id=new_id(), type=kind, subject_id=subject.id)
        session.add(event)
        _deliver(session, event, wanted)


def _deliver(session: Session, event: WebhookEvent, webhooks: Iterable[Webhook]) -> list[WebhookDelivery]:
    session.flush()
    rows = [
        WebhookDelivery(
            id=new_id(),
            webhook_id=webhook.id,
            event_id=event.id,
            state=DeliveryState.PENDING,
            next_attempt_at=present(session),
        )
        for webhook in webhooks
    ]
    session.add_all(rows)
    session.flush()
    return rows
