"""``/v1/uploads``: models from files."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import OfDatabase, OfSettings, Reading, Writing
from app.api.lists import ListQuery, Text
from app.api.models import PageOf
from app.api.problems import responses
from app.db.session import Database
from app.errors import UnsupportedMediaError
from app.services import uploads
from app.services.uploads import Incoming
from app.settings import Settings

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])

_MEDIA = ("application/octet-stream", "application/onnx")
_BODY = {
    "requestBody": {
        "required": True,
        "description": "The file's bytes, as they are.",
        "content": {
            media: {"schema": {"type": "string", "format": "binary"}, "example": "\b\b\x12\x07pytorch"}
            for media in _MEDIA
        },
    }
}
_AT_ONCE = 1 << 20
"""Bytes that are gathered before they are written: callers' pieces are small."""


class Upload(BaseModel):
    """A file that this team uploaded."""

    id: UUID
    ref: str = Field(description="Names it in comparisons and vettings.", examples=["upload:" + 64 * "0"])
    name: str
    sha256: str
    bytes: int
    created_at: datetime


_KNOWN: dict[int | str, dict[str, Any]] = {200: {"model": Upload, "description": "The team has these bytes already."}}


@router.post(
    "",
    status_code=201,
    response_model=Upload,
    responses=_KNOWN | responses(413, 415, 422, 507),
    openapi_extra=_BODY,
)
async def add(
    request: Request,
    response: Response,
    source: OfDatabase,
    settings: OfSettings,
    name: Annotated[
        str, Query(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$", description="To be shown.")
    ] = "model.onnx",
) -> dict[str, Any]:
    """Upload a model, an ONNX file, to compare and vet by its reference; only this team can see and name it."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in _MEDIA:
        raise UnsupportedMediaError(f"The body is {media or 'of no type'}; send the file itself, as {_MEDIA[0]}.")
    with Incoming(settings) as incoming:
        if (announced := request.headers.get("content-length", "")).isdecimal():
            incoming.check(int(announced))
        await _receive(request, incoming)
        sha256 = await run_in_threadpool(incoming.seal)
        added, new = await run_in_threadpool(_keep, source, settings, incoming, sha256, name)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/uploads/{added['id']}"
    return added


async def _receive(request: Request, incoming: Incoming) -> None:
    """Write what comes; a caller who goes away raises ClientDisconnect, and the file is removed."""
    gathered = bytearray()
    async for chunk in request.stream():
        gathered += chunk
        if len(gathered) >= _AT_ONCE:
            await run_in_threadpool(incoming.write, bytes(gathered))
            gathered.clear()
    await run_in_threadpool(incoming.write, bytes(gathered))


def _keep(
    source: Database, settings: Settings, incoming: Incoming, sha256: str, name: str
) -> tuple[dict[str, Any], bool]:
    # Not before the file is there: on SQLite a transaction that writes keeps every other waiting.
    with source.write() as session:
        return uploads.keep(session, settings, incoming, sha256, name)


class UploadFilters(ListQuery):
    """Which uploads, and in which order."""

    sha256: Text | None = None
    sort: Literal["created_at", "-created_at", "name", "-name"] = "-created_at"


@router.get("", response_model=PageOf[Upload], responses=responses(422))
def find(session: Reading, query: Annotated[UploadFilters, Query()]) -> dict[str, Any]:
    """List the team's uploads, the newest first."""
    return uploads.find(session, query.selection())


@router.get("/{upload_id}", response_model=Upload, responses=responses(404, 422))
def show(upload_id: UUID, session: Reading) -> dict[str, Any]:
    """Look at one upload."""
    return uploads.show(session, upload_id)


@router.delete("/{upload_id}", status_code=204, responses=responses(404, 409, 422))
def remove(upload_id: UUID, session: Writing, settings: OfSettings) -> None:
    """Delete an upload; refused while a comparison that has not ended needs it. What was measured of it stays."""
    uploads.remove(session, settings, upload_id)
