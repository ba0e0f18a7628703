"""``/v1/policies``."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import ConfigDict, Field

from app.api.dependencies import TEXT, Reading, Writing
from app.api.lists import ListQuery
from app.api.models import PageOf, PolicyModel, PolicyRequest
from app.api.problems import responses
from app.services import policies

router = APIRouter(prefix="/v1/policies", tags=["policies"])


class NewPolicy(PolicyRequest):
    """A policy to store."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "our-api",
                    "critical": ["accuracy", "interface", "latency"],
                    "advisory": ["architecture"],
                    "accuracy_margin": 0.01,
                    "latency_margin": 0.1,
                }
            ]
        }
    )


class StoredPolicy(PolicyModel):
    """A version of a policy. ``shipped`` ones come with the project."""

    shipped: bool
    created_at: datetime


class PolicyWithVersions(StoredPolicy):
    """A policy in its newest version, with all of them, the newest first."""

    versions: list[StoredPolicy]


class PolicyFilters(ListQuery):
    """Which policies, and in which order."""

    shipped: bool | None = Field(default=None, description="Whether it comes with the project.")
    sort: Literal["name", "-name", "created_at", "-created_at"] = "name"


@router.get("", response_model=PageOf[StoredPolicy], responses=responses(422))
def find(session: Reading, query: Annotated[PolicyFilters, Query()]) -> dict[str, Any]:
    """List the policies by name, each in its newest version."""
    return policies.find(session, query.selection())


@router.post(
    "",
    status_code=201,
    response_model=StoredPolicy,
    responses={200: {"description": "Its newest version says the same.", "model": StoredPolicy}, **responses(422)},
)
def add(body: NewPolicy, session: Writing, *, response: Response) -> dict[str, Any]:
    """Store a policy, as a new version if there is one of that name; the same content makes no new version."""
    stored, created = policies.add(session, body.plain())
    response.headers["Location"] = f"/v1/policies/{stored['name']}"
    if not created:
        response.status_code = 200
    return stored


@router.get("/{name}", response_model=PolicyWithVersions, responses=responses(404, 422))
def show(name: Annotated[str, Path(pattern=TEXT)], session: Reading) -> dict[str, Any]:
    """Look at a policy and its versions."""
    return policies.show(session, name)
