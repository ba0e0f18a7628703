"""Answers that a caller may keep: a final result has an ETag, and who has it already is told so in a few bytes."""

from hashlib import sha256
from typing import Annotated, Any

from fastapi import Header, Response
from pydantic import BaseModel

IfNoneMatch = Annotated[
    str | None,
    Header(alias="If-None-Match", description="The `ETag` of a final result: 304 without content if it is the same."),
]


def documented(media_type: str | None = None, example: str = "") -> dict[int | str, dict[str, Any]]:
    """Return the documentation of a route's answers, besides its problems; a type where it is not JSON."""
    header = {
        "description": "Of a final result: the SHA-256 of its content. Absent while it may change.",
        "schema": {"type": "string"},
    }
    content = {media_type: {"schema": {"type": "string"}, "example": example}} if media_type else None
    return {
        200: {"headers": {"ETag": header}} | ({"content": content} if content else {}),
        304: {"description": "The final result is the one that the caller has."},
    }


def reply(
    shown: BaseModel | str,
    if_none_match: str | None = None,
    *,
    final: bool = False,
    media_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> Response:
    """Return a result, a model as JSON; a final one with a strong ETag from its bytes, or 304 when the caller has it.

    Lists, which are polled, are answered so too: written on the thread that read them, where FastAPI takes two more.
    A comparison is final before its answer's last byte is: a cancelled one tells of jobs that others still wait for.
    The tag follows the bytes whatever changes them (RFC 9110, section 8.8.1).
    """
    content = (shown if isinstance(shown, str) else shown.model_dump_json(by_alias=True)).encode()
    if not final:
        return Response(content, headers=headers, media_type=media_type)
    tag = f'"{sha256(content).hexdigest()}"'
    tagged = {**(headers or {}), "ETag": tag, "Cache-Control": "no-cache"}
    if if_none_match is not None and _names(if_none_match, tag):
        return Response(status_code=304, headers=tagged)
    return Response(content, headers=tagged, media_type=media_type)


def _names(if_none_match: str, tag: str) -> bool:
    """Whether a list of tags has this one, weak or strong: proxies weaken tags of what they compress."""
    given = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return tag in given or "*" in given
