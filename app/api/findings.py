"""``/v1/findings``."""

from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field

from app.api import exports
from app.api.dependencies import OfDatabase, Reading
from app.api.etags import reply
from app.api.lists import ListQuery, Ref, Since, Text, Until, Zoo
from app.api.models import Finding, PageOf
from app.api.problems import responses
from app.domain.policies import Dimension
from app.domain.verdicts import Place, Severity
from app.services import findings
from app.services.exports import FINDINGS, of_findings

router = APIRouter(prefix="/v1/findings", tags=["findings"])


class FindingFilters(ListQuery):
    """Which findings, and in which order."""

    dimension: Dimension | None = None
    metric: Text | None = Field(default=None, examples=["top1"])
    architecture: Text | None = Field(default=None, description="Architecture key.", examples=["resnet50"])
    verdict: Place | None = Field(default=None, description="Where the effect lies by its interval and margin.")
    severity: Severity | None = None
    zoo: Zoo = None
    zoo_a: Text | None = None
    zoo_b: Text | None = None
    ref: Ref = None
    a_ref: Text | None = None
    b_ref: Text | None = None
    audit_id: UUID | None = None
    comparison_id: UUID | None = None
    since: Since = None
    until: Until = None
    format: exports.Format = None
    sort: Literal["-magnitude", "magnitude", "-effect", "effect", "-created_at", "created_at"] = "-magnitude"


@router.get("", response_model=PageOf[Finding], responses=exports.DOCUMENTED | responses(406, 422))
def find(
    session: Reading, database: OfDatabase, query: Annotated[FindingFilters, Query()], accept: exports.Accept = None
) -> Any:  # noqa: ANN401 - a page, or a stream of rows
    """List findings, the largest first; those without the number to sort by come last."""
    wanted = query.selection()
    if (kind := exports.chosen(query.format, accept)) != "json":
        rows = partial(of_findings, wanted=wanted)
        return exports.stream(database, kind, FINDINGS, rows, name="findings")
    return reply(PageOf[Finding].model_validate(findings.find(session, wanted)))
