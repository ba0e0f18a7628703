"""``/v1/audits``."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.dependencies import LastEventId, OfCaller, OfFeeds, OfSettings, Reading, Writing
from app.api.etags import IfNoneMatch, documented, reply
from app.api.feeds import DOCUMENTED
from app.api.lists import ListQuery, Since, Text, Until
from app.api.models import Asked, PageOf, Progress, Stateful, Words
from app.api.problems import responses
from app.domain.plan import DEFAULT_WEIGHTS
from app.domain.states import FINAL, State
from app.queue import ring
from app.services import audits, events

router = APIRouter(prefix="/v1/audits", tags=["audits"])


class AuditRequest(Asked):
    """Zoos to compare with each other."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"zoos": ["torchvision", "keras"], "models": ["resnet50", "vgg*"], "weights": "none"}]
        }
    )

    zoos: list[Words] = Field(min_length=1, max_length=50)
    models: list[Words] = Field(
        default_factory=list, max_length=1000, description="Architecture keys or names, with wildcards. Default: all."
    )
    weights: str = Field(
        default=DEFAULT_WEIGHTS,
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00]*$",
        description="Weights tag to pick, or each zoo's `default`. `none` is whatever needs no download. Listings of "
        "other tags are left out.",
    )


class Ranked(BaseModel):
    """A model in a group."""

    ref: str
    top1: float


class Group(BaseModel):
    """Models that the audit's tests do not tell apart, the most accurate first."""

    architecture: str | None
    dataset: str
    models: list[Ranked]


class AuditSummary(BaseModel):
    """Comparisons by state and by verdict, findings by dimension and verdict, accuracies that are not told apart."""

    comparisons: int
    states: dict[str, int]
    verdicts: dict[str, int]
    findings: dict[str, dict[str, int]]
    accuracy_groups: list[Group] = Field(default_factory=list)


class AuditInList(Stateful):
    """An audit in a list."""

    zoos: list[str]
    models: list[str]
    weights: str
    latency_budget_s: float
    operating_points: list[dict[str, Any]]
    summary: AuditSummary | None


class Audit(AuditInList):
    """An audit with its progress."""

    progress: Progress


@router.post("", status_code=202, response_model=Audit, responses=responses(422))
def submit(
    body: AuditRequest,
    session: Writing,
    *,
    settings: OfSettings,
    caller: OfCaller,
    response: Response,
    after_commit: BackgroundTasks,
) -> dict[str, Any]:
    """Queue an audit of zoo against zoo."""
    submitted = audits.submit(session, settings, body.plain(), caller)
    response.headers["Location"] = f"/v1/audits/{submitted.id}"
    after_commit.add_task(ring, settings, submitted.ring)
    return audits.show(session, submitted.id)


class AuditFilters(ListQuery):
    """Which audits, and in which order."""

    state: State | None = None
    zoo: Text | None = Field(default=None, description="One of the audit's zoos.", examples=["timm"])
    since: Since = None
    until: Until = None
    sort: Literal["-created_at", "created_at", "-finished_at", "finished_at"] = "-created_at"


@router.get("", response_model=PageOf[AuditInList], responses=responses(422))
def find(session: Reading, query: Annotated[AuditFilters, Query()]) -> dict[str, Any]:
    """List audits, the newest first."""
    return audits.find(session, query.selection())


@router.get("/{audit_id}", response_model=Audit, responses=documented() | responses(404, 422))
def show(audit_id: UUID, session: Reading, if_none_match: IfNoneMatch = None) -> Response:
    """Look at an audit: its progress, and its summary once it has ended."""
    shown = Audit.model_validate(audits.show(session, audit_id))
    return reply(shown, if_none_match, final=shown.state in FINAL)


@router.get("/{audit_id}/events", response_class=Response, responses=DOCUMENTED)
def follow(audit_id: UUID, session: Reading, feeds: OfFeeds, last_event_id: LastEventId = None) -> Response:
    """Follow an audit to its end, as server-sent events: changes of its jobs, and how far it is."""
    return feeds.reply(audit_id, events.of_audit, session, last=last_event_id)


@router.post("/{audit_id}/cancel", response_model=Audit, responses=responses(404, 409, 422))
def cancel(audit_id: UUID, session: Writing) -> dict[str, Any]:
    """Cancel an audit, its open comparisons, and the jobs that nothing else needs."""
    return audits.cancel(session, audit_id)
