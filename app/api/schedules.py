"""``/v1/schedules``: audits that come due again and again."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api.audits import AuditRequest
from app.api.dependencies import TEXT, OfCaller, OfSettings, Reading, Writing
from app.api.lists import ListQuery
from app.api.models import Failure, Flag, PageOf, RequestModel
from app.api.problems import responses
from app.domain.schedules import MOST_CAUGHT_UP, Missed
from app.domain.states import State
from app.services import schedules

router = APIRouter(prefix="/v1/schedules", tags=["schedules"])

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=TEXT, examples=["nightly"])]
Cron = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=TEXT,
        description="Five fields: minute, hour, day of month, month, day of week.",
        examples=["0 3 * * *"],
    ),
]
TimeZone = Annotated[
    str,
    Field(min_length=1, max_length=100, pattern=TEXT, description="An IANA name.", examples=["Europe/Berlin"]),
]
Missing = Annotated[
    Missed,
    Field(
        description="What becomes of due times at which no audit could start, because nothing was running or the audit "
        "before still was: passed over, only the latest made up for, or each of them one after the other, at most "
        f"{MOST_CAUGHT_UP}."
    ),
]


class ScheduleRequest(RequestModel):
    """An audit and when it comes due."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "nightly",
                    "cron": "0 3 * * *",
                    "time_zone": "Europe/Berlin",
                    "request": {"zoos": ["torchvision", "keras"], "models": ["resnet50"], "weights": "none"},
                }
            ]
        }
    )

    name: Name
    cron: Cron
    time_zone: TimeZone = "UTC"
    missed: Missing = Missed.LATEST
    enabled: Flag = True
    request: AuditRequest

    def plain(self) -> dict[str, Any]:
        """Return the schedule as the services take it."""
        return self.model_dump(mode="json", exclude={"request"}) | {"request": self.request.plain()}


class ScheduleChange(RequestModel):
    """What to change; fields that are left out stay."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": False}]})

    name: Name | None = None
    cron: Cron | None = None
    time_zone: TimeZone | None = None
    missed: Missing | None = None
    enabled: Flag | None = None
    request: AuditRequest | None = None

    @model_validator(mode="after")
    def _no_nulls(self) -> "ScheduleChange":
        nulls = sorted(name for name in self.model_fields_set if getattr(self, name) is None)
        if nulls:
            raise ValueError(f"{', '.join(nulls)} cannot be null; leave out what stays as it is")
        return self

    def plain(self) -> dict[str, Any]:
        """Return what is to be changed as the services take it."""
        changed = self.model_dump(mode="json", exclude={"request"}, exclude_unset=True)
        return changed if self.request is None else changed | {"request": self.request.plain()}


class Run(BaseModel):
    """What a due time led to: an audit, or the reason why it was refused."""

    due_at: datetime
    started_at: datetime = Field(description="When a scheduler submitted the audit.")
    audit_id: UUID | None
    state: State | None = Field(description="The audit's.")
    error: Failure | None


class Schedule(BaseModel):
    """A schedule, when it is next due, and its last run. Times are UTC."""

    id: UUID
    name: str
    cron: str
    time_zone: str
    missed: Missed
    enabled: bool
    request: dict[str, Any] = Field(description="The body of a POST /v1/audits.")
    next_due_at: datetime | None = Field(
        description="Null when disabled. A time that has passed waits for the end of the audit before."
    )
    last_run: Run | None
    created_at: datetime
    changed_at: datetime


@router.post("", status_code=201, response_model=Schedule, responses=responses(409, 422))
def create(
    body: ScheduleRequest, session: Writing, *, settings: OfSettings, caller: OfCaller, response: Response
) -> dict[str, Any]:
    """Add a schedule."""
    added = schedules.create(session, settings, body.plain(), caller)
    response.headers["Location"] = f"/v1/schedules/{added['id']}"
    return added


class ScheduleFilters(ListQuery):
    """Which schedules, and in which order."""

    enabled: bool | None = None
    sort: Literal["name", "-name", "next_due_at", "-next_due_at", "created_at", "-created_at"] = "name"


@router.get("", response_model=PageOf[Schedule], responses=responses(422))
def find(session: Reading, query: Annotated[ScheduleFilters, Query()]) -> dict[str, Any]:
    """List the schedules by name."""
    return schedules.find(session, query.selection())


@router.get("/{schedule_id}", response_model=Schedule, responses=responses(404, 422))
def show(schedule_id: UUID, session: Reading) -> dict[str, Any]:
    """Look at a schedule: when it is next due, and what its last run led to."""
    return schedules.show(session, schedule_id)


@router.patch("/{schedule_id}", response_model=Schedule, responses=responses(404, 409, 422))
def change(schedule_id: UUID, body: ScheduleChange, session: Writing, settings: OfSettings) -> dict[str, Any]:
    """Change a schedule. With another expression or time zone, or enabled again, it comes due from now on."""
    return schedules.change(session, settings, schedule_id, body.plain())


@router.delete("/{schedule_id}", status_code=204, responses=responses(404, 422))
def remove(schedule_id: UUID, session: Writing) -> None:
    """Delete a schedule and the record of its runs; its audits stay."""
    schedules.remove(session, schedule_id)


class RunFilters(ListQuery):
    """Which runs, and in which order."""

    refused: bool | None = Field(default=None, description="Whether there is an error instead of an audit.")
    sort: Literal["-due_at", "due_at"] = "-due_at"


@router.get("/{schedule_id}/runs", response_model=PageOf[Run], responses=responses(404, 422))
def find_runs(schedule_id: UUID, session: Reading, query: Annotated[RunFilters, Query()]) -> dict[str, Any]:
    """List what the due times of a schedule led to, the latest first."""
    return schedules.runs(session, schedule_id, query.selection())
