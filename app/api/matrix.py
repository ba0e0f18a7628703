"""``/v1/matrix`` and ``/v1/trends``: what a dashboard shows of many findings at once."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api import exports
from app.api.dependencies import OfDatabase, Reading
from app.api.etags import reply
from app.api.lists import Since, Text, Until
from app.api.models import Number
from app.api.problems import responses
from app.domain.policies import Dimension
from app.domain.verdicts import Place
from app.services import matrix, trends
from app.services.exports import MATRIX, of_matrix

router = APIRouter(prefix="/v1", tags=["findings"])


class Verdicts(BaseModel):
    """How many findings lie where."""

    inside: int
    outside: int
    inconclusive: int


class Worst(BaseModel):
    """The finding with the largest magnitude of a cell."""

    finding_id: UUID
    comparison_id: UUID
    architecture: str | None
    a_ref: str
    b_ref: str
    metric: str
    effect: Number
    magnitude: Number
    verdict: Place


class Cell(BaseModel):
    """What was found of two zoos in a dimension."""

    zoo_a: str
    zoo_b: str
    dimension: Dimension
    findings: int
    verdicts: Verdicts
    worst: Worst


class Matrix(BaseModel):
    """Zoo against zoo: the cells that have findings, A's zoo first, as the comparisons were asked for."""

    architecture: str | None
    audit_id: UUID | None
    zoos: list[str]
    cells: list[Cell]


class MatrixFilters(BaseModel):
    """Which findings count: all, one architecture's, or one audit's."""

    model_config = ConfigDict(extra="forbid")

    architecture: Text | None = Field(default=None, description="Architecture key.", examples=["resnet50"])
    audit_id: UUID | None = None
    dimension: Dimension | None = None
    zoo: Text | None = Field(default=None, description="Only cells of this zoo.", examples=["timm"])
    format: exports.Format = None


@router.get("/matrix", response_model=Matrix, responses=exports.DOCUMENTED | responses(406, 422))
def show_matrix(
    session: Reading, database: OfDatabase, query: Annotated[MatrixFilters, Query()], accept: exports.Accept = None
) -> Any:  # noqa: ANN401 - the matrix, or a stream of its cells
    """Count findings by pair of zoos, dimension and verdict, with the worst of each."""
    filters = query.model_dump(exclude={"format"})
    if (kind := exports.chosen(query.format, accept)) != "json":
        return exports.stream(database, kind, MATRIX, partial(of_matrix, **filters), name="matrix")
    return reply(Matrix.model_validate(matrix.show(session, **filters)))


class Point(BaseModel):
    """A finding of a series; effects are fractions."""

    created_at: datetime
    finding_id: UUID
    comparison_id: UUID
    audit_id: UUID | None
    a: Number
    b: Number
    effect: Number
    ci95: list[Number] | None
    margin: Number
    verdict: Place
    moved: list[Literal["verdict", "evidence", "effect", "incomparable"]] = Field(
        description="Against the point before: inside became outside or the other way; one of the two could not "
        "decide; the effect moved beyond intervals and margin; measured on another machine or other items."
    )


class Series(BaseModel):
    """One metric of one pair over time, the oldest point first."""

    a_ref: str
    b_ref: str
    dimension: Dimension
    metric: str
    points: list[Point]


class Trends(BaseModel):
    """Series by pair, dimension and metric."""

    series: list[Series]
    truncated: bool = Field(description="Whether there are older points than `limit` let through.")


class TrendFilters(BaseModel):
    """Which series, and since when."""

    model_config = ConfigDict(extra="forbid")

    ref: Text = Field(description="Full reference of either side.", examples=["timm:resnet50.a1_in1k"])
    a_ref: Text | None = Field(default=None, description="Full reference of A, for one pair.")
    b_ref: Text | None = Field(default=None, description="Full reference of B, for one pair.")
    dimension: Dimension | None = None
    metric: Text | None = Field(default=None, examples=["top1"])
    zoo: Text | None = Field(default=None, description="Zoo of either side.", examples=["torchvision"])
    since: Since = None
    until: Until = None
    limit: int = Field(default=500, ge=1, le=2000, description="Most points of all series together, the latest.")


@router.get("/trends", response_model=Trends, responses=responses(422))
def show_trends(session: Reading, query: Annotated[TrendFilters, Query()]) -> dict[str, Any]:
    """Follow the findings of a listing over time, each point with why it counts as moved from the one before."""
    return trends.show(session, query.model_dump(exclude={"limit"}), limit=query.limit)
