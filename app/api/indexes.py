"""``/v1/zoos/{zoo}/index`` and ``/v1/listings/{id}/similar``: fingerprints of architectures, and their search."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Query, Response
from pydantic import BaseModel, Field

from app.api.dependencies import OfSettings, Reading, Writing
from app.api.lists import ListQuery, Text
from app.api.models import Failure, PageOf, Progress
from app.api.problems import responses
from app.domain.states import State
from app.queue import ring
from app.services import indexes, similar

router = APIRouter(prefix="/v1")


class Index(BaseModel):
    """How far the fingerprinting of a zoo is. What could not be fingerprinted is counted, and no failure of it."""

    zoo: str = Field(examples=["timm"])
    state: State
    progress: Progress
    error: Failure | None = Field(description="Why the zoo could not be listed.")
    requested_at: datetime
    listings: int | None
    indexed: int = Field(description="Listings with a fingerprint.")
    structures: int = Field(description="Different fingerprints among them.")
    failed: int = Field(description="Listings that could not be fingerprinted.")
    failures: dict[str, int] = Field(description="Of those, how many for which reason.", examples=[{"lost": 2}])


class NotIndexed(BaseModel):
    """A listing that could not be fingerprinted."""

    listing_id: UUID
    built: str = Field(description="The reference that was built; another weights tag has the same architecture.")
    error: Failure
    measured_at: datetime


class Model(BaseModel):
    """A model of a zoo, with the weights tags that share its structure; ``ref`` is the default among them."""

    ref: str
    listing_id: UUID
    zoo: str
    name: str
    weights: list[str]
    architecture: str | None
    fingerprint: str
    similarity: float = Field(description="Cosine of the vectors' angle: 1 for the same structure.")
    same_structure: bool = Field(description="Whether the canonical graphs are equal.")


class Searched(BaseModel):
    """What was searched."""

    structures: int
    zoos: list[str]


class Similar(BaseModel):
    """The nearest models, whatever they are called, and what is called alike without being the same."""

    ref: str
    architecture: str | None
    fingerprint: str
    searched: Searched
    items: list[Model]
    namesakes: list[Model] = Field(description="Same architecture key, another structure.")


@router.post("/zoos/{zoo}/index", status_code=202, tags=["zoos"], response_model=Index, responses=responses(422))
def submit(
    zoo: str,
    session: Writing,
    *,
    settings: OfSettings,
    retry: Annotated[bool, Query(description="Try again what could not be fingerprinted, too.")] = False,
    response: Response,
    after_commit: BackgroundTasks,
) -> dict[str, Any]:
    """Fingerprint every architecture of a zoo that is not fingerprinted yet. Asking again joins work under way."""
    jobs = indexes.submit(session, settings, zoo, retry=retry)
    response.headers["Location"] = f"/v1/zoos/{zoo}/index"
    after_commit.add_task(ring, settings, jobs)
    return indexes.show(session, settings, zoo)


@router.get("/zoos/{zoo}/index", tags=["zoos"], response_model=Index, responses=responses(404, 422))
def show(zoo: str, session: Reading, settings: OfSettings) -> dict[str, Any]:
    """Look at the index of a zoo."""
    return indexes.show(session, settings, zoo)


@router.post("/zoos/{zoo}/index/cancel", tags=["zoos"], response_model=Index, responses=responses(404, 409, 422))
def cancel(zoo: str, session: Writing, settings: OfSettings) -> dict[str, Any]:
    """Cancel what is left of an index; what is fingerprinted stays."""
    return indexes.cancel(session, settings, zoo)


class FailureFilters(ListQuery):
    """Which listings, and in which order."""

    code: Text | None = Field(default=None, description="Code of the error.", examples=["not-loadable"])
    sort: Literal["built", "-built", "measured_at", "-measured_at"] = "built"


@router.get("/zoos/{zoo}/index/failures", tags=["zoos"], response_model=PageOf[NotIndexed], responses=responses(422))
def find_failures(
    zoo: str, session: Reading, settings: OfSettings, query: Annotated[FailureFilters, Query()]
) -> dict[str, Any]:
    """List what could not be fingerprinted, with the reason."""
    return indexes.failures(session, settings, zoo, query.selection())


@router.get(
    "/listings/{listing_id}/similar", tags=["listings"], response_model=Similar, responses=responses(404, 409, 422)
)
def find_similar(
    listing_id: UUID,
    session: Reading,
    *,
    zoo: Annotated[Text | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Most models to return.")] = 10,
) -> dict[str, Any]:
    """Find the nearest architectures in all zoos that were indexed, or in one of them."""
    return similar.of_listing(session, listing_id, zoo=zoo, limit=limit)
