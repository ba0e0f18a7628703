"""``/v1/datasets``."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.dependencies import TEXT, OfCaller, Reading, Writing
from app.api.lists import ListQuery, Text
from app.api.models import PageOf, RequestModel, Words
from app.api.problems import responses
from app.domain.datasets import FORMATS
from app.services import datasets

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


class DatasetOptions(RequestModel):
    """What a format needs besides the path; each is of some formats only."""

    split: str | None = Field(
        default=None,
        max_length=200,
        pattern=TEXT,
        description="cifar-10, cifar-100, mnist: test (default) or train; huggingface: needed where there are several.",
    )
    labels: str | None = Field(
        default=None, max_length=20, pattern=TEXT, description="cifar-100: fine (default) or coarse, its superclasses."
    )
    ground_truth: str | None = Field(
        default=None, max_length=1000, pattern=TEXT, description="imagenet-flat: file with the answer of each picture."
    )
    synsets: str | None = Field(
        default=None,
        max_length=1000,
        pattern=TEXT,
        description="imagenet-flat: the devkit's meta.mat, or its synsets one a line, where the answers are ids.",
    )
    image_column: str | None = Field(
        default=None, max_length=200, pattern=TEXT, description="parquet, huggingface: default image."
    )
    label_column: str | None = Field(
        default=None, max_length=200, pattern=TEXT, description="parquet, huggingface: default label."
    )


class DatasetRequest(RequestModel):
    """A data set that the workers can read."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "imagenet-val", "format": "folder", "path": "/data/imagenet/val", "label_space": "imagenet-1k"}
            ]
        }
    )

    name: Words
    format: Words = Field(description="; ".join(f"{kind.name}: {kind.holds}" for kind in FORMATS.values()) + ".")
    path: str = Field(min_length=1, max_length=1000, pattern=TEXT, description="Absolute, as the workers see it.")
    label_space: str | None = Field(default=None, max_length=100, pattern=TEXT)
    options: DatasetOptions = DatasetOptions()


class Dataset(BaseModel):
    """A data set. What it holds is null until it was used."""

    id: UUID
    name: str
    format: str
    path: str | None
    label_space: str | None
    options: dict[str, str]
    items: int | None
    classes: int | None
    digest: str | None
    created_at: datetime


@router.post("", status_code=201, response_model=Dataset, responses=responses(409, 422))
def add(body: DatasetRequest, session: Writing, caller: OfCaller, response: Response) -> dict[str, Any]:
    """Add a data set; a worker reads its items at the first use."""
    added = datasets.add(session, body.model_dump(), caller)
    response.headers["Location"] = f"/v1/datasets/{added['name']}"
    return added


class DatasetFilters(ListQuery):
    """Which data sets, and in which order."""

    format: Text | None = Field(default=None, examples=["folder"])
    label_space: Text | None = Field(default=None, examples=["imagenet-1k"])
    sort: Literal["name", "-name", "created_at", "-created_at"] = "name"


@router.get("", response_model=PageOf[Dataset], responses=responses(422))
def find(session: Reading, query: Annotated[DatasetFilters, Query()]) -> dict[str, Any]:
    """List the data sets by name."""
    return datasets.find(session, query.selection())


@router.get("/{name}", response_model=Dataset, responses=responses(404, 422))
def show(name: str, session: Reading) -> dict[str, Any]:
    """Look at one data set."""
    return datasets.show(session, name)
