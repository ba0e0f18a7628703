"""``/v1/predictions``."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.dependencies import TEXT, OfCaller, OfSettings, Reading, Writing
from app.api.etags import IfNoneMatch, documented, reply
from app.api.lists import ListQuery, Text
from app.api.models import Failure, PageOf, Progress, RequestModel, Words
from app.api.problems import responses
from app.domain.states import FINAL, State
from app.queue import ring
from app.services import predictions

router = APIRouter(prefix="/v1/predictions", tags=["predictions"])


class ImportRequest(RequestModel):
    """A file of predictions that the workers can read."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "recorded:keras-resnet50", "dataset": "imagenet-val", "path": "/data/keras-resnet50.npz"}
            ]
        }
    )

    model: Words = Field(description="A listing's reference, or recorded:NAME for a model that no zoo here has.")
    dataset: Words = Field(description="Name of a data set; a new one is made, known by the labels in the file.")
    path: str = Field(min_length=1, max_length=1000, pattern=TEXT, description="Absolute, as the workers see it.")
    label_space: str | None = Field(
        default=None, max_length=100, pattern=TEXT, description="Of the answers. Default: the data set's."
    )


class Prediction(BaseModel):
    """What one model answered on a data set; fractions."""

    id: UUID
    model: str
    dataset: str
    recorded: bool = Field(description="Imported, not run here.")
    items: int
    items_digest: str
    top1: float
    top5: float | None
    created_at: datetime


class Import(BaseModel):
    """An import: its state, and what it has stored."""

    id: UUID
    state: State
    model: str
    dataset: str
    progress: Progress
    error: Failure | None
    prediction: Prediction | None


@router.post("/imports", status_code=202, response_model=Import, responses=responses(422))
def submit(
    body: ImportRequest,
    session: Writing,
    *,
    settings: OfSettings,
    caller: OfCaller,
    response: Response,
    after_commit: BackgroundTasks,
) -> dict[str, Any]:
    """Import the predictions of a `.npz` or Parquet file."""
    submitted = predictions.submit(session, settings, body.model_dump(), caller)
    response.headers["Location"] = f"/v1/predictions/imports/{submitted.id}"
    after_commit.add_task(ring, settings, submitted.ring)
    return predictions.show_import(session, submitted.id)


@router.get("/imports/{import_id}", response_model=Import, responses=documented() | responses(404, 422))
def show_import(import_id: UUID, session: Reading, if_none_match: IfNoneMatch = None) -> Response:
    """Look at an import."""
    shown = Import.model_validate(predictions.show_import(session, import_id))
    return reply(shown, if_none_match, final=shown.state in FINAL)


class PredictionFilters(ListQuery):
    """Which predictions, and in which order."""

    dataset: Text | None = Field(default=None, description="Name of a data set.", examples=["digits"])
    model: Text | None = Field(default=None, description="Full reference.", examples=["digits-torch:lenet5@v1"])
    recorded: bool | None = Field(default=None, description="Imported, or run here.")
    sort: Literal["-created_at", "created_at", "-top1", "top1"] = "-created_at"


@router.get("", response_model=PageOf[Prediction], responses=responses(422))
def find(session: Reading, query: Annotated[PredictionFilters, Query()]) -> dict[str, Any]:
    """List predictions, the newest first."""
    return predictions.find(session, query.selection())
