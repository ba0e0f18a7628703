"""``/v1/vettings``: may one model take another's place, under a policy?"""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Query, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app import summary
from app.api.comparisons import Contracts, Side
from app.api.dependencies import OfCaller, OfSettings, Reading, Writing
from app.api.etags import IfNoneMatch, documented, reply
from app.api.lists import ListQuery
from app.api.models import Asked, Failure, Number, PageOf, PolicyModel, PolicyRequest, Progress, Words
from app.api.problems import responses
from app.domain.policies import Criterion, Dimension
from app.domain.states import FINAL, State
from app.domain.vetting import Decision, Judgement
from app.queue import ring
from app.services import vettings

router = APIRouter(prefix="/v1/vettings", tags=["vettings"])


_SUMMARY = """### Vetting: pass

`torchvision:resnet50@IMAGENET1K_V2` in place of `timm:resnet50.a1_in1k`, under policy drop-in-api version 1.

| criterion | tier | verdict | numbers |
| --- | --- | --- | --- |
| interface | critical | inside | the same input, output and label space |
"""


class VettingRequest(Asked):
    """A candidate that is to take a reference's place, or a stored comparison (A the candidate), and a policy."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "candidate": "digits-torch:lenet5",
                    "reference": "digits-keras:lenet5",
                    "policy": "drop-in-api",
                    "dataset": "digits",
                },
                {"comparison_id": "0197b1f6-3a52-7c4e-9d0e-6f2f4a1c8b7d", "policy": "fine-tune-backbone"},
            ]
        }
    )

    candidate: Words | None = None
    reference: Words | None = None
    comparison_id: UUID | None = Field(
        default=None, description="A stored comparison, which is judged without measuring again."
    )
    policy: Words | PolicyRequest = Field(description="A policy's name, name@version, or one given in full.")
    contracts: Contracts | None = Field(default=None, description="Input contracts to override: a is the candidate's.")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        measured = self.model_fields_set - {"comparison_id", "policy"}
        if self.comparison_id is None and None in {self.candidate, self.reference}:
            raise ValueError("name a candidate and a reference, or a comparison_id")
        if self.comparison_id is not None and measured:
            named = ", ".join(sorted(measured))
            raise ValueError(f"a stored comparison is not measured again; leave out {named}")
        return self


class CheckNumber(BaseModel):
    """A number that a criterion is decided by; effects, intervals and margins are fractions."""

    metric: str
    candidate: Number
    reference: Number
    effect: Number
    ci95: list[Number] | None
    margin: Number
    verdict: Literal["inside", "outside", "inconclusive"]


class Check(BaseModel):
    """One criterion of the policy."""

    criterion: Criterion
    tier: Literal["critical", "advisory"]
    verdict: Judgement
    said: str = Field(description="The numbers in words, with interval and margin.")
    needed: str | None = Field(description="What would decide, where it is open.")
    numbers: list[CheckNumber]


class Vetting(BaseModel):
    """A vetting, with its decision once its comparison has ended."""

    id: UUID
    comparison_id: UUID
    state: State
    verdict: Decision | None
    reason: str | None
    candidate: Side
    reference: Side
    policy: PolicyModel
    dimensions: list[Dimension]
    dataset: str | None
    checks: list[Check]
    advisories: list[str] = Field(description="What is told for information and decides nothing.")
    needed: list[str] = Field(description="What would decide, the cheapest first, where there is not enough evidence.")
    progress: Progress
    error: Failure | None
    created_at: datetime
    finished_at: datetime | None


@router.post("", status_code=202, response_model=Vetting, responses=responses(422))
def submit(
    body: VettingRequest,
    session: Writing,
    *,
    settings: OfSettings,
    caller: OfCaller,
    response: Response,
    after_commit: BackgroundTasks,
) -> dict[str, Any]:
    """Queue a vetting."""
    submitted = vettings.submit(session, settings, body.plain(), caller)
    response.headers["Location"] = f"/v1/vettings/{submitted.id}"
    after_commit.add_task(ring, settings, submitted.ring)
    return vettings.show(session, submitted.id)


class VettingFilters(ListQuery):
    """Which vettings, and in which order."""

    comparison_id: UUID | None = None
    sort: Literal["-created_at", "created_at"] = "-created_at"


@router.get("", response_model=PageOf[Vetting], responses=responses(422))
def find(session: Reading, query: Annotated[VettingFilters, Query()]) -> dict[str, Any]:
    """List vettings, the newest first."""
    return vettings.find(session, query.selection())


@router.get(
    "/{vetting_id}.md",
    response_class=Response,
    responses=documented("text/markdown", _SUMMARY) | responses(404, 422),
)
def show_summary(vetting_id: UUID, session: Reading, if_none_match: IfNoneMatch = None) -> Response:
    """Look at a vetting as Markdown, fit for a pull request."""
    shown = vettings.show(session, vetting_id)
    final, media_type = shown["state"] in FINAL, "text/markdown; charset=utf-8"
    return reply(summary.markdown(shown), if_none_match, final=final, media_type=media_type)


@router.get("/{vetting_id}", response_model=Vetting, responses=documented() | responses(404, 422))
def show(vetting_id: UUID, session: Reading, if_none_match: IfNoneMatch = None) -> Response:
    """Look at a vetting: its decision once it stands, until then its progress."""
    shown = Vetting.model_validate(vettings.show(session, vetting_id))
    return reply(shown, if_none_match, final=shown.state in FINAL)
