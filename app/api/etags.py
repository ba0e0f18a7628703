"""Answers that a caller may keep: a final result has an ETag, and who has it already is told so in a few bytes."""

from hashlib import sha256
from typing import Annotated, Any

from fastapi import Header, Response

from app.api.models import Stateful
from app.domain.states import FINAL

IfNoneMatch = Annotated[
    str | None,
    Header(alias="If-None-Match", description="The `ETag` of a final result: 304 without content if it is the same."),
]

NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "ETag": {
                "description": "Of a final result: the SHA-256 of its content. Absent while it may change.",
                "schema": {"type": "string"},
            }
        }
    },
    304: {"description": "The final result is the one that the caller has."},
}
"""Documentation of a route's answers, besides its problems."""


def reply(shown: Stateful, if_none_match: str | None) -> Response:
    """Return a result as JSON; a final one with a strong ETag from its bytes, or 304 when the caller has it.

    A comparison is final before its answer's last byte is: a cancelled one tells of jobs that others still wait for.
    The tag follows the bytes whatever changes them (RFC 9110, section 8.8.1).
    """
    content = shown.model_dump_json(by_alias=True).encode()
    if shown.state not in FINAL:
        return Response(content, media_type="application/json")
    tag = f'"{sha256(content).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if if_none_match is not None and _names(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="application/json")


def _names(if_none_match: str, tag: str) -> bool:
    """Whether a list of tags has this one, weak or strong: proxies weaken tags of what they compress."""
    given = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return tag in given or "*" in given
