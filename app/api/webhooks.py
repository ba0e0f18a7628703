"""``/v1/webhooks``: addresses that are told when something has ended."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api.dependencies import TEXT, OfCaller, OfSettings, Reading, Writing
from app.api.lists import ListQuery
from app.api.models import Flag, PageOf, RequestModel
from app.api.problems import responses
from app.domain.webhooks import DeliveryState, Event
from app.services import webhooks

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

LONGEST_OVERLAP_S = 7 * 24 * 3600

Address = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2000,
        pattern=r"^[!-~]+$",
        description="https, in ASCII; http and networks besides the public Internet only as the settings allow.",
        examples=["https://hooks.example.com/zooaudit"],
    ),
]
Events = Annotated[list[Event], Field(min_length=1, max_length=len(Event), description="What to be told of.")]
Description = Annotated[str, Field(max_length=200, pattern=TEXT)]


class WebhookRequest(RequestModel):
    """An address and the events that it is told of."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "url": "https://hooks.example.com/zooaudit",
                    "events": ["audit.ended", "audit.drifted", "vetting.ended"],
                    "description": "the release channel",
                }
            ]
        }
    )

    url: Address
    events: Events
    description: Description = ""
    enabled: Flag = True


class WebhookChange(RequestModel):
    """What to change; fields that are left out stay."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": True}]})

    url: Address | None = None
    events: Events | None = None
    description: Description | None = None
    enabled: Flag | None = None

    @model_validator(mode="after")
    def _no_nulls(self) -> "WebhookChange":
        nulls = sorted(name for name in self.model_fields_set if getattr(self, name) is None)
        if nulls:
            raise ValueError(f"{', '.join(nulls)} cannot be null; leave out what stays as it is")
        return self


class Rotation(RequestModel):
    """How long the secret before stays valid."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap_s": 86400}]})

    overlap_s: float = Field(
        default=86400,
        strict=True,
        ge=0,
        le=LONGEST_OVERLAP_S,
        description="Seconds in which messages are signed with both secrets.",
    )


class Webhook(BaseModel):
    """A webhook. Times are UTC."""

    id: UUID
    url: str
    events: list[Event]
    description: str
    enabled: bool
    disabled_reason: str | None = Field(description="Why the service disabled it; null when it did not.")
    failing_since: datetime | None = Field(description="The first failed attempt since the last success.")
    old_secret_until: datetime | None = Field(description="Until when the secret before signs too.")
    created_at: datetime
    changed_at: datetime


class WebhookWithSecret(Webhook):
    """A webhook with its new secret, which is shown this once."""

    secret: str | None = Field(description="Null when the same Idempotency-Key has been shown it before.")


class Attempt(BaseModel):
    """One attempt to deliver a message."""

    number: int
    started_at: datetime
    duration_ms: float | None = Field(description="Null while it is under way, and when its sender died.")
    status: int | None = Field(description="What the receiver answered.")
    error: str | None = Field(description="Why it did not arrive.")


class Delivery(BaseModel):
    """A message on its way to a webhook, with every attempt."""

    id: UUID
    message_id: str = Field(description="The `webhook-id` of every attempt: the same message is the same id.")
    type: str
    subject_id: UUID = Field(description="Id of what it tells of.")
    state: DeliveryState
    next_attempt_at: datetime | None
    attempts: list[Attempt]
    created_at: datetime
    finished_at: datetime | None


@router.post("", status_code=201, response_model=WebhookWithSecret, responses=responses(422))
def create(
    body: WebhookRequest, session: Writing, *, settings: OfSettings, caller: OfCaller, response: Response
) -> dict[str, Any]:
    """Add a webhook. Its secret is in this answer and in no other."""
    added = webhooks.create(session, settings, body.model_dump(mode="json"), caller)
    response.headers["Location"] = f"/v1/webhooks/{added['id']}"
    return added


class WebhookFilters(ListQuery):
    """Which webhooks, in which order."""

    enabled: bool | None = None
    sort: Literal["-created_at", "created_at"] = "-created_at"


@router.get("", response_model=PageOf[Webhook], responses=responses(422))
def find(session: Reading, query: Annotated[WebhookFilters, Query()]) -> dict[str, Any]:
    """List the webhooks, the newest first."""
    return webhooks.find(session, query.selection())


@router.get("/{webhook_id}", response_model=Webhook, responses=responses(404, 422))
def show(webhook_id: UUID, session: Reading) -> dict[str, Any]:
    """Look at a webhook: whether it is reached, or why it was disabled."""
    return webhooks.show(session, webhook_id)


@router.patch("/{webhook_id}", response_model=Webhook, responses=responses(404, 422))
def change(webhook_id: UUID, body: WebhookChange, session: Writing, settings: OfSettings) -> dict[str, Any]:
    """Change a webhook. One that is enabled again is sent what was still waiting for it."""
    return webhooks.change(session, settings, webhook_id, body.model_dump(mode="json", exclude_unset=True))


@router.delete("/{webhook_id}", status_code=204, responses=responses(404, 422))
def remove(webhook_id: UUID, session: Writing) -> None:
    """Delete a webhook with its deliveries."""
    webhooks.remove(session, webhook_id)


@router.post("/{webhook_id}/secret", response_model=WebhookWithSecret, responses=responses(404, 422))
def rotate(webhook_id: UUID, body: Rotation, session: Writing) -> dict[str, Any]:
    """Give a webhook a new secret. For a while messages are signed with both, so that receivers can change over."""
    return webhooks.rotate(session, webhook_id, overlap_s=body.overlap_s)


@router.post("/{webhook_id}/test", status_code=202, response_model=Delivery, responses=responses(404, 409, 422))
def test(webhook_id: UUID, session: Writing) -> dict[str, Any]:
    """Send a message of type `webhook.test`; look at its delivery for how that went."""
    return webhooks.test(session, webhook_id)


class DeliveryFilters(ListQuery):
    """Which deliveries, in which order."""

    state: DeliveryState | None = None
    sort: Literal["-created_at", "created_at"] = "-created_at"


@router.get("/{webhook_id}/deliveries", response_model=PageOf[Delivery], responses=responses(404, 422))
def find_deliveries(webhook_id: UUID, session: Reading, query: Annotated[DeliveryFilters, Query()]) -> dict[str, Any]:
    """List the deliveries of a webhook, the newest first, each with its attempts."""
    return webhooks.deliveries(session, webhook_id, query.selection())


@router.get("/{webhook_id}/deliveries/{delivery_id}", response_model=Delivery, responses=responses(404, 422))
def show_delivery(webhook_id: UUID, delivery_id: UUID, session: Reading) -> dict[str, Any]:
    """Look at a delivery: every attempt, and when the next one is."""
    return webhooks.delivery(session, webhook_id, delivery_id)


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/redelivery",
    status_code=202,
    response_model=Delivery,
    responses=responses(404, 409, 422),
)
def redeliver(webhook_id: UUID, delivery_id: UUID, session: Writing) -> dict[str, Any]:
    """Send the message of a delivery that has ended once more, with the same `webhook-id`."""
    return webhooks.redeliver(session, webhook_id, delivery_id)
