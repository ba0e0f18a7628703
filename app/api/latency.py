"""``/v1/latency/history``."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.api.dependencies import OfSettings, Reading
from app.api.lists import ListQuery, Since, Text, Until
from app.api.models import PageOf
from app.api.problems import responses
from app.services import latency_history

router = APIRouter(prefix="/v1/latency", tags=["latency"])

Digest = Annotated[str, Field(min_length=4, max_length=64, pattern="^[0-9a-f]+$")]
"""The beginning of a SHA-256."""


class Changed(BaseModel):
    """What is not the same before and after."""

    what: str = Field(examples=["packages.onnxruntime"])
    before: Any
    after: Any


class Step(BaseModel):
    """A change of level; unconfirmed until it has come back in independent runs."""

    state: Literal["confirmed", "unconfirmed"]
    before_ms: float
    after_ms: float
    ratio: float = Field(description="After over before.")
    scatter: float | None = Field(description="Standard deviation from run to run that it is judged by, a fraction.")
    changed: list[Changed]


class LatencyRun(BaseModel):
    """What one listing took at one operating point in one session; ms."""

    id: UUID
    ref: str
    artifact: str | None = Field(description="SHA-256 of the model.")
    operating_point: dict[str, Any]
    point_key: str
    hardware: str = Field(description="Fingerprint of the machine; runs of others are never compared.")
    fingerprint: str = Field(description="Fingerprint of the machine with its software.")
    machine: str
    software: dict[str, Any]
    job_id: UUID
    measurement_id: UUID
    median_ms: float
    p90_ms: float | None
    samples: int
    blocks: int
    busy_beside: float | None = Field(description="Cores that worked for others meanwhile.")
    void: bool = Field(description="The session's control moved; such a run counts for no step.")
    step: Step | None = Field(description="The change that begins with this run.")
    created_at: datetime


class RunFilters(ListQuery):
    """Which runs of which listing, and in which order."""

    ref: Text = Field(min_length=1, examples=["torchvision:resnet50@none"])
    fingerprint: Digest | None = Field(
        default=None, description="Beginning of a machine's fingerprint, with or without its software."
    )
    point: Digest | None = Field(default=None, description="Beginning of a `point_key`.")
    since: Since = None
    until: Until = None
    sort: Literal["-created_at", "created_at"] = "-created_at"


@router.get("/history", response_model=PageOf[LatencyRun], responses=responses(404, 422))
def history(session: Reading, settings: OfSettings, query: Annotated[RunFilters, Query()]) -> dict[str, Any]:
    """List what a listing took, the newest run first, with the steps in its history."""
    return latency_history.find(session, settings, query.ref, query.selection())
