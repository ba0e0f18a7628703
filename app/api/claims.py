"""``/v1/claims``."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.api.dependencies import TEXT, Reading
from app.api.problems import responses
from app.services import claims

router = APIRouter(prefix="/v1/claims", tags=["listings"])


class Claim(BaseModel):
    """A number that a zoo publishes; a fraction."""

    value: float
    source: str


class Measured(BaseModel):
    """What was measured on a data set; fractions."""

    dataset: str
    recorded: bool
    items: int
    top1: float
    top5: float | None
    top1_minus_claim: float | None
    top5_minus_claim: float | None


class ClaimsOfListing(BaseModel):
    """A listing's claims by metric, and what was measured."""

    ref: str
    zoo: str
    claimed: dict[str, Claim]
    measured: list[Measured]


class ClaimDifference(BaseModel):
    """Two zoos' claims about one name."""

    metric: str = Field(examples=["top1"])
    a_ref: str
    b_ref: str
    a: float
    b: float
    effect: float = Field(description="a - b")


class Claims(BaseModel):
    """Every claim about an architecture key."""

    architecture: str
    listings: list[ClaimsOfListing]
    differences: list[ClaimDifference] = Field(description="Claim against claim across zoos, the largest first.")


@router.get("", response_model=Claims, responses=responses(404, 422))
def show(
    session: Reading,
    architecture: Annotated[str, Query(min_length=1, max_length=200, pattern=TEXT, examples=["resnet50"])],
) -> dict[str, Any]:
    """Compare what zoos claim of models of one name with each other, and with what was measured."""
    return claims.of_architecture(session, architecture)
