"""``/v1/zoos`` and their listings: what there is to compare."""

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.api.dependencies import Cursor, Limit, OfSettings, Reading, Text
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


@router.get("/zoos", tags=["zoos"], response_model=list[Zoo], responses=responses(422))
def list_zoos(session: Reading, settings: OfSettings) -> list[dict[str, Any]]:
    """List the zoos."""
    return zoos.show_all(session, settings)


@router.get("/zoos/{zoo}", tags=["zoos"], response_model=Zoo, responses=responses(404, 422))
def show_zoo(zoo: str, session: Reading, settings: OfSettings) -> dict[str, Any]:
    """Look at one zoo."""
    return zoos.show(session, settings, zoo)


@router.get("/listings", tags=["listings"], response_model=PageOf[Listing], responses=responses(422))
def find_listings(
    session: Reading,
    *,
    zoo: Text = None,
    architecture: Text = None,
    match: Text = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> dict[str, Any]:
    """List what the zoos publish, as far as their catalogs were read; ``match`` is part of the reference."""
    return listings.find(session, zoo=zoo, architecture=architecture, match=match, cursor=cursor, limit=limit)


@router.get("/listings/{listing_id}", tags=["listings"], response_model=Listing, responses=responses(404, 422))
def show_listing(listing_id: UUID, session: Reading) -> dict[str, Any]:
    """Look at one listing."""
    return listings.show(session, listing_id)
