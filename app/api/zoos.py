"""``/v1/zoos`` and their listings: what there is to compare."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from app.api.dependencies import OfSettings, Reading
from app.api.etags import reply
from app.api.lists import ListQuery, Text
from app.api.models import PageOf
from app.api.problems import responses
from app.services import listings, zoos

router = APIRouter(prefix="/v1")


class Zoo(BaseModel):
    """A place that publishes models."""

    name: str = Field(examples=["torchvision"])
    title: str
    local: bool = Field(description="Whether it is a team's own folder.")
    listings: int | None = Field(description="Null until its catalog was read.")
    version: str | None
    refreshed_at: datetime | None


class Unsafe(BaseModel):
    """Why a listing could not be audited safely."""

    code: str = Field(examples=["can-execute"])
    message: str
    evidence: dict[str, Any] = Field(description="What was seen; `scan` is a scanner's word.")
    found_at: datetime


class Listing(BaseModel):
    """One published model with one weights tag."""

    id: UUID
    ref: str = Field(examples=["torchvision:resnet50@IMAGENET1K_V2"])
    zoo: str
    name: str
    weights: str
    architecture: str | None
    default: bool
    label_space: str | None
    classes: int | None
    contract: dict[str, Any] | None
    claims: list[dict[str, Any]]
    licence: str | None
    runtimes: list[str]
    unsafe: Unsafe | None = Field(description="What the last look at it found, if that was unsafe.")


@router.get("/zoos", tags=["zoos"], response_model=list[Zoo], responses=responses(422))
def list_zoos(session: Reading, settings: OfSettings) -> list[dict[str, Any]]:
    """List the zoos."""
    return zoos.show_all(session, settings)


@router.get("/zoos/{zoo}", tags=["zoos"], response_model=Zoo, responses=responses(404, 422))
def show_zoo(zoo: str, session: Reading, settings: OfSettings) -> dict[str, Any]:
    """Look at one zoo."""
    return zoos.show(session, settings, zoo)


class ListingFilters(ListQuery):
    """Which listings, and in which order."""

    zoo: Text | None = Field(default=None, examples=["timm"])
    name: Text | None = Field(default=None, description="Name in its zoo.", examples=["resnet50"])
    weights: Text | None = Field(default=None, description="Weights tag.", examples=["IMAGENET1K_V2"])
    architecture: Text | None = Field(default=None, description="Architecture key.", examples=["resnet50"])
    label_space: Text | None = Field(default=None, examples=["imagenet-1k"])
    default: bool | None = Field(default=None, description="Whether it is the model's default weights tag.")
    match: Text | None = Field(
        default=None, description="Part of the reference, A to Z in any case.", examples=["resnet"]
    )
    sort: Literal["ref", "-ref", "name", "-name"] = "ref"


@router.get("/listings", tags=["listings"], response_model=PageOf[Listing], responses=responses(422))
def find_listings(session: Reading, query: Annotated[ListingFilters, Query()]) -> Response:
    """List what the zoos publish, as far as their catalogs were read."""
    return reply(PageOf[Listing].model_validate(listings.find(session, query.selection())))


@router.get("/listings/{listing_id}", tags=["listings"], response_model=Listing, responses=responses(404, 422))
def show_listing(listing_id: UUID, session: Reading) -> dict[str, Any]:
    """Look at one listing."""
    return listings.show(session, listing_id)
