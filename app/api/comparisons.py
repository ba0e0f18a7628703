"""``/v1/comparisons``."""

from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api import exports
from app.api.dependencies import LastEventId, OfCaller, OfDatabase, OfFeeds, OfSettings, Reading, Writing
from app.api.etags import IfNoneMatch, documented, reply
from app.api.feeds import DOCUMENTED
from app.api.lists import ListQuery, Ref, Since, Text, Until, Zoo
from app.api.models import (
    Asked,
    Finding,
    JudgedDifference,
    PageOf,
    PolicyModel,
    PolicyRequest,
    Progress,
    RequestModel,
    Stateful,
    Words,
)
from app.api.problems import responses
from app.domain.states import FINAL, State
from app.domain.verdicts import Verdict
from app.queue import ring
from app.services import comparisons, events, items, vettings
from app.services.exports import COMPARISONS, of_comparisons

router = APIRouter(prefix="/v1/comparisons", tags=["comparisons"])


class Contracts(RequestModel):
    """Fields of the sides' input contracts that are to be other than their zoos have them, e.g. ``{"resize": 232}``."""

    a: dict[str, Any] | None = None
    b: dict[str, Any] | None = None


class ComparisonRequest(Asked):
    """Two references, and what to compare them on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "a": "torchvision:resnet50@none",
                    "b": "keras:ResNet50@none",
                    "dimensions": ["architecture", "latency"],
                }
            ]
        }
    )

    a: Words
    b: Words
    contracts: Contracts | None = Field(default=None, description="Fields of the input contracts to override.")


class Side(BaseModel):
    """One side of a comparison; more once it was measured."""

    model_config = ConfigDict(extra="allow")

    ref: str


class ComparisonSummary(Stateful):
    """A comparison in a list."""

    audit_id: UUID | None
    verdict: Verdict | None
    architecture_key: str | None
    a: Side
    b: Side


class Comparison(ComparisonSummary):
    """A comparison with its answer, as far as it stands. A dimension that was not measured is null, see ``errors``."""

    reason: str | None
    architecture: dict[str, Any] | None
    accuracy: dict[str, Any] | None
    latency: dict[str, Any] | None
    interface: dict[str, Any] | list[Any] | None
    contract: dict[str, Any] | None = Field(description="Differences of the input contracts; null when one is unknown.")
    weights: dict[str, Any] | None = Field(description="Whether the weights are known to be the same, and how.")
    features: dict[str, Any] | None = Field(description="Whether the features are known to be the same, and how.")
    errors: dict[str, Any] = Field(description="Why a dimension was not measured, by dimension.")
    findings: list[Finding]
    progress: Progress


class VerdictRequest(RequestModel):
    """The policy to judge by."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"policy": "fine-tune-backbone"}]})

    policy: Words | PolicyRequest = Field(description="A policy's name, name@version, or one given in full.")

    def plain(self) -> dict[str, Any]:
        """Return the request as the services take it."""
        return self.model_dump(mode="json", exclude_none=True)


class JudgedAgain(BaseModel):
    """What a stored comparison says under a policy. Fields as a comparison has them."""

    comparison_id: UUID
    policy: PolicyModel
    verdict: Verdict
    reason: str
    a: Side
    b: Side
    architecture: dict[str, Any] | None
    accuracy: dict[str, Any] | None
    latency: dict[str, Any] | None
    interface: dict[str, Any] | None
    contract: dict[str, Any] | None
    weights: dict[str, Any]
    features: dict[str, Any]
    errors: dict[str, Any]
    findings: list[JudgedDifference]


Cell = Literal["both_right", "a_only", "b_only", "both_wrong_same", "both_wrong_different"]


class Best(BaseModel):
    """A model's best answer to an item."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    best_class: int = Field(alias="class", description="-1 is a class that the data set does not have.")
    score: float


class Item(BaseModel):
    """One item, and how both models answered it."""

    item: int = Field(description="Place in the data set, from 0.")
    id: str | None
    label: int
    cell: Cell
    a: Best
    b: Best


_DIAGRAM = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 480"><text x="8" y="16">Conv</text></svg>'


@router.post("", status_code=202, response_model=Comparison, responses=responses(422))
def submit(
    body: ComparisonRequest,
    session: Writing,
    *,
    settings: OfSettings,
    caller: OfCaller,
    response: Response,
    after_commit: BackgroundTasks,
) -> dict[str, Any]:
    """Queue a comparison of two listings."""
    submitted = comparisons.submit(session, settings, body.plain(), caller)
    response.headers["Location"] = f"/v1/comparisons/{submitted.id}"
    after_commit.add_task(ring, settings, submitted.ring)
    return submitted.shown or comparisons.show(session, submitted.id)


class ComparisonFilters(ListQuery):
    """Which comparisons, and in which order."""

    state: State | None = None
    verdict: Verdict | None = None
    architecture: Text | None = Field(default=None, description="Architecture key.", examples=["resnet50"])
    zoo: Zoo = None
    zoo_a: Text | None = None
    zoo_b: Text | None = None
    ref: Ref = None
    a_ref: Text | None = None
    b_ref: Text | None = None
    audit_id: UUID | None = None
    since: Since = None
    until: Until = None
    format: exports.Format = None
    sort: Literal["-created_at", "created_at", "-finished_at", "finished_at"] = "-created_at"


@router.get("", response_model=PageOf[ComparisonSummary], responses=exports.DOCUMENTED | responses(406, 422))
def find(
    session: Reading, database: OfDatabase, query: Annotated[ComparisonFilters, Query()], accept: exports.Accept = None
) -> Any:  # noqa: ANN401 - a page, or a stream of rows
    """List comparisons, the newest first."""
    wanted = query.selection()
    if (kind := exports.chosen(query.format, accept)) != "json":
        rows = partial(of_comparisons, wanted=wanted)
        return exports.stream(database, kind, COMPARISONS, rows, name="comparisons")
    return reply(PageOf[ComparisonSummary].model_validate(comparisons.find(session, wanted)))


@router.get("/{comparison_id}", response_model=Comparison, responses=documented() | responses(404, 422))
def show(comparison_id: UUID, session: Reading, if_none_match: IfNoneMatch = None) -> Response:
    """Look at a comparison: its answer once it stands, until then its progress."""
    shown = Comparison.model_validate(comparisons.show(session, comparison_id))
    return reply(shown, if_none_match, final=shown.state in FINAL)


@router.get(
    "/{comparison_id}/diagram",
    response_class=Response,
    responses=documented("image/svg+xml", _DIAGRAM) | responses(404, 422),
)
def diagram(comparison_id: UUID, session: Reading, settings: OfSettings, if_none_match: IfNoneMatch = None) -> Response:
    """Draw both graphs side by side with their differences coloured, as an SVG document."""
    # Names in it come from models that strangers published: it may not load or run anything.
    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    drawn = comparisons.diagram(session, settings, comparison_id)
    return reply(drawn, if_none_match, final=True, media_type="image/svg+xml", headers=headers)


class ItemFilters(ListQuery):
    """Which items, in the data set's order."""

    cell: Cell | None = None
    label: int | None = Field(default=None, description="Only items of this right class.")
    min_score: float | None = Field(default=None, ge=0, description="A model gave its best class at least this score.")


@router.get("/{comparison_id}/items", response_model=PageOf[Item], responses=responses(404, 410, 422))
def find_items(
    comparison_id: UUID, session: Reading, settings: OfSettings, query: Annotated[ItemFilters, Query()]
) -> dict[str, Any]:
    """List the items that both models answered, in the data set's order, by who is right about them."""
    return items.find(session, settings, comparison_id, query.selection())


@router.post("/{comparison_id}/verdicts", response_model=JudgedAgain, responses=responses(404, 409, 422))
def judge(comparison_id: UUID, body: VerdictRequest, session: Reading) -> dict[str, Any]:
    """Judge a stored comparison under another policy; nothing is measured or stored."""
    return vettings.judge(session, comparison_id, body.plain()["policy"])


@router.get("/{comparison_id}/events", response_class=Response, responses=DOCUMENTED)
def follow(comparison_id: UUID, session: Reading, feeds: OfFeeds, last_event_id: LastEventId = None) -> Response:
    """Follow a comparison to its end, as server-sent events: changes of its jobs, and how far it is."""
    return feeds.reply(comparison_id, events.of_comparison, session, last=last_event_id)


@router.post("/{comparison_id}/cancel", response_model=Comparison, responses=responses(404, 409, 422))
def cancel(comparison_id: UUID, session: Writing) -> dict[str, Any]:
    """Cancel a comparison and the jobs that nothing else needs."""
    return comparisons.cancel(session, comparison_id)
