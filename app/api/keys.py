"""``/v1/keys`` and ``/v1/activity``: who may do what, and who did. For keys of scope admin."""

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.dependencies import TEXT, OfCaller, OfSettings, Reading, Writing
from app.api.lists import ListQuery, Since, Text, Until
from app.api.models import PageOf, RequestModel
from app.api.problems import responses
from app.domain.keys import Scope
from app.domain.teams import NAME
from app.services import activity, keys

router = APIRouter(prefix="/v1", tags=["keys"])

_MOST = 10_000_000


class KeyRequest(RequestModel):
    """A key to make."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "nightly CI", "team": "vision", "scope": "submit"}]}
    )

    name: str = Field(min_length=1, max_length=200, pattern=TEXT, description="For people, to tell it from others.")
    team: str = Field(
        pattern=f"^{NAME.pattern}$",
        description="What it submits is this team's; it sees that and what is shared. `shared` submits for everybody.",
        examples=["vision"],
    )
    scope: Scope = Field(description="read; submit, which includes read; admin, which includes all; metrics alone.")
    expires_in_days: int | None = Field(
        default=keys.DEFAULT_DAYS, strict=True, ge=1, le=36500, description="Null: only when it is revoked."
    )
    requests_per_minute: int | None = Field(
        default=None, strict=True, ge=1, le=_MOST, description="Default: the service's setting."
    )
    submissions_per_day: int | None = Field(
        default=None, strict=True, ge=1, le=_MOST, description="Default: the service's setting."
    )


class Key(BaseModel):
    """A key, without the key itself."""

    id: UUID
    name: str
    team: str
    scope: Scope
    shown: str = Field(description="The beginning of the key.", examples=["zooaudit_Xw3kPq"])
    state: Literal["valid", "expired", "revoked"]
    requests_per_minute: int
    submissions_per_day: int
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_on: date | None = Field(description="Day of its last use, UTC.")


class NewKey(Key):
    """A key that was just made."""

    token: str | None = Field(
        description="The key itself; it is shown this once. Null when the same Idempotency-Key has been shown it "
        "before: revoke the key and make another."
    )


class KeysQuery(ListQuery):
    """Filters of the list of keys."""

    team: Text | None = None
    scope: Scope | None = None
    sort: Literal["created_at", "-created_at", "name", "-name"] = "-created_at"


class Deed(BaseModel):
    """A request that changed something or tried to, or looked at keys."""

    id: UUID
    at: datetime
    key_id: UUID | None = Field(description="Null: there were no keys.")
    team: str
    method: str
    route: str = Field(examples=["/v1/comparisons/{comparison_id}/cancel"])
    path: str
    made: str | None = Field(description="Address of what it made.")
    status: int
    client: str | None
    request_id: str


class ActivityQuery(ListQuery):
    """Filters of the record."""

    key_id: UUID | None = None
    team: Text | None = None
    status: Annotated[int | None, Field(ge=1, le=999)] = None
    request_id: Text | None = None
    since: Since = None
    until: Until = None
    sort: Literal["at", "-at"] = "-at"


@router.post("/keys", status_code=201, response_model=NewKey, responses=responses(422))
def create(
    body: KeyRequest,
    session: Writing,
    *,
    request: Request,
    settings: OfSettings,
    caller: OfCaller,
    response: Response,
    after_commit: BackgroundTasks,
) -> dict[str, Any]:
    """Make a key. The answer has the key itself, this once."""
    made = keys.create(session, settings, body.model_dump(mode="json"), caller)
    response.headers["Location"] = f"/v1/keys/{made['id']}"
    response.headers["Cache-Control"] = "no-store"
    after_commit.add_task(request.app.state.keyring.forget)
    return made


@router.get("/keys", response_model=PageOf[Key], responses=responses(422))
def find(session: Reading, query: Annotated[KeysQuery, Query()]) -> dict[str, Any]:
    """List the keys of every team."""
    return keys.find(session, query.selection())


@router.get("/keys/{key_id}", response_model=Key, responses=responses(404, 422))
def show(key_id: UUID, session: Reading) -> dict[str, Any]:
    """Look at a key."""
    return keys.show(session, key_id)


@router.post("/keys/{key_id}/revoke", response_model=Key, responses=responses(404, 422))
def revoke(key_id: UUID, session: Writing, *, request: Request, after_commit: BackgroundTasks) -> dict[str, Any]:
    """Revoke a key for good. Other processes of the API may take it for valid for ten more seconds."""
    after_commit.add_task(request.app.state.keyring.forget)
    return keys.revoke(session, key_id)


@router.get("/activity", response_model=PageOf[Deed], responses=responses(422))
def find_activity(session: Reading, query: Annotated[ActivityQuery, Query()]) -> dict[str, Any]:
    """List what was done with every team's keys, the latest first."""
    return activity.find(session, query.selection())
