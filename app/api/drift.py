"""``/v1/audits/{id}/drift``: what changed since another audit."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from app.api.dependencies import Reading
from app.api.etags import IfNoneMatch, documented, reply
from app.api.models import Number
from app.api.problems import responses
from app.domain.policies import Dimension
from app.services import drift

router = APIRouter(prefix="/v1/audits", tags=["audits"])


class Compared(BaseModel):
    """One of the two audits."""

    id: UUID
    zoos: list[str]
    created_at: datetime
    finished_at: datetime | None


class FieldChange(BaseModel):
    """A field of a listing that says something else."""

    field: str = Field(examples=["contract"])
    before: Any
    after: Any


class ListingChange(BaseModel):
    """A listing of which its zoo says something else."""

    ref: str
    fields: list[FieldChange]


class Listings(BaseModel):
    """Listings by reference."""

    new: list[str]
    gone: list[str]
    changed: list[ListingChange]


class ArtifactChange(BaseModel):
    """A reference behind which are other bytes: SHA-256."""

    ref: str
    before: str
    after: str


class PairChange(BaseModel):
    """A pair with another verdict, or the state of one that has none."""

    a_ref: str
    b_ref: str
    before: str
    after: str


class Identity(BaseModel):
    """What makes findings of two audits the same."""

    a_ref: str
    b_ref: str
    dimension: Dimension
    metric: str


class Judged(BaseModel):
    """What one audit found; effects are fractions."""

    verdict: Literal["inside", "outside", "inconclusive"]
    a: Number
    b: Number
    effect: Number
    ci95: list[Number] | None
    margin: Number


class Alone(Identity, Judged):
    """A finding of one audit only, and what the other lacks: the pair, its dimension, or the metric alone."""

    lacks: Literal["pair", "dimension", "metric"]


class Moved(Identity):
    """A finding with another verdict, or whose effect moved: intervals apart, and further than the margin."""

    why: list[Literal["verdict", "evidence", "effect"]] = Field(
        description="Inside became outside or the other way; one of the audits could not decide; the number moved."
    )
    before: Judged
    after: Judged


class Incomparable(BaseModel):
    """Findings whose numbers rest on something else than before."""

    dimension: Dimension
    findings: int
    because: str
    before: str | None = Field(description="Fingerprint of the machine, digest of the items.")
    after: str | None


class Findings(BaseModel):
    """Findings by what happened to them."""

    appeared: list[Alone]
    vanished: list[Alone]
    moved: list[Moved]
    incomparable: list[Incomparable]


class Summary(BaseModel):
    """How many of each."""

    listings_new: int
    listings_gone: int
    listings_changed: int
    artifacts_changed: int
    pairs_changed: int
    findings_appeared: int
    findings_vanished: int
    findings_moved: int
    findings_incomparable: int
    findings_unchanged: int


class Drift(BaseModel):
    """What changed from one audit (``against``) to another."""

    audit: Compared
    against: Compared
    drifted: bool
    listings_kept: bool = Field(
        description="Whether both audits kept what was listed; else the references of their pairs stand for it."
    )
    summary: Summary
    listings: Listings
    artifacts: list[ArtifactChange]
    pairs: list[PairChange]
    findings: Findings


@router.get("/{audit_id}/drift", response_model=Drift, responses=documented() | responses(404, 409, 422))
def show(
    audit_id: UUID,
    session: Reading,
    *,
    against: Annotated[
        UUID | None,
        Query(description="The audit to compare with. Default: the one before of the same schedule that succeeded."),
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Tell what changed since another audit: listings, artifacts, verdicts, findings."""
    return reply(Drift.model_validate(drift.report(session, audit_id, against)), if_none_match, final=True)
