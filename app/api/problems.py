"""Every error as an RFC 9457 problem: ``application/problem+json`` with a sentence that says what to do."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.api import examples
from app.api.access import HEADER
from app.api.scopes import NEEDED
from app.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastapi import FastAPI, Request

MEDIA_TYPE = "application/problem+json"

_log = structlog.get_logger(__name__)


class FieldProblem(BaseModel):
    """What is wrong with one field of a request."""

    field: str = Field(examples=["body.a"])
    message: str = Field(examples=["Field required"])


class Problem(BaseModel):
    """An error that the caller can do something about."""

    type: str = Field(description="Stable identifier of the kind of error.", examples=["urn:zooaudit:unknown-zoo"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["There is no zoo 'torchvison'. Did you mean torchvision?"])
    instance: str = Field(description="Path of the request.", examples=["/v1/comparisons"])
    errors: list[FieldProblem] | None = Field(default=None, description="The fields, when the request is malformed.")


_TEXTS = {
    401: "The request names no valid key.",
    403: "The key's scope does not allow this, or it is shared and only looked at by a team's key.",
    404: "The resource does not exist, or is another team's.",
    405: "The resource does not have this method.",
    406: "The service cannot answer in the format that is asked for.",
    409: "The request does not fit the resource's present state.",
    410: "What is asked for was deleted when it had been kept as long as the settings say.",
    413: "The body is larger than the settings allow, or than the room that the team's uploads have left.",
    415: "The body is of a type that the route does not read.",
    422: "The request is malformed, names something unknown, or contradicts itself.",
    429: "The key has used what it may use in a minute or a day, or its team has too much under way.",
    500: "The service failed; its log says why.",
    503: "The service or its database is not ready.",
    507: "There is no room for what was sent.",
}


def _documented(status: int) -> dict[str, Any]:
    example = {
        "type": "urn:zooaudit:example",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": _TEXTS[status],
        "instance": "/v1/comparisons",
    }
    return {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}


def _keyed(status: int) -> dict[str, Any]:
    header = {429: "Retry-After"}.get(status, "WWW-Authenticate")
    return {
        "description": _TEXTS[status],
        "content": {MEDIA_TYPE: _documented(status)},
        "headers": {header: {"schema": {"type": "string"}}},
    }


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of problem responses, for a route."""
    return {
        status: {"description": _TEXTS[status], "model": Problem, "content": {MEDIA_TYPE: _documented(status)}}
        for status in sorted({*statuses, 500, 503})
    }


def _problem(
    request: Request,
    status: int,
    slug: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **extra: Any,  # noqa: ANN401 - JSON members
) -> JSONResponse:
    content = {
        "type": f"urn:zooaudit:{slug}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        **extra,
    }
    return JSONResponse(content, status, headers=headers, media_type=MEDIA_TYPE)


async def _service(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)  # noqa: S101 - registered for this class
    return _problem(request, error.status, error.slug, error.message, headers=error.headers, **error.extra)


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    fields = [{"field": ".".join(str(part) for part in item["loc"]), "message": item["msg"]} for item in error.errors()]
    named = "; ".join(f"{item['field']}: {item['message']}" for item in fields)
    return _problem(request, 422, "malformed-request", f"The request is malformed. {named}", errors=fields)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    if error.status_code == HTTPStatus.BAD_REQUEST:
        # What the framework raises for a body that it cannot decode; one that is no JSON gets 422 from it.
        detail = "The request is malformed. body: it cannot be read; send JSON in UTF-8, not nested too deep."
        return _problem(request, 422, "malformed-request", detail, errors=[{"field": "body", "message": "unreadable"}])
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.url.path} does not have the method {request.method}."
        headers = {"Allow": ", ".join(_methods(request))}
        return _problem(request, 405, "method-not-allowed", detail, headers=headers)
    details = {404: ("no-route", f"There is nothing at {request.url.path}; /docs lists what there is.")}
    slug, detail = details.get(error.status_code, ("http-error", str(error.detail)))
    return _problem(request, error.status_code, slug, detail, headers=error.headers)


def _methods(request: Request) -> list[str]:
    """Return the methods that the routes of a path have together; the framework names those of the first alone."""
    routes = request.app.router.routes
    return [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]


async def _database(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DBAPIError)  # noqa: S101 - registered for this class
    _log.error("database error", path=request.url.path, exc_info=error)
    if error.connection_invalidated or type(error).__name__ == "OperationalError":
        detail = "The database does not answer; try again in a moment."
        return _problem(request, 503, "database-unavailable", detail, headers={"Retry-After": "5"})
    return _problem(request, 500, "internal", _TEXTS[500])


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    _log.error("unexpected error", path=request.url.path, exc_info=error)
    # This answer is given outside of what adds the header to the others.
    return _problem(request, 500, "internal", _TEXTS[500], headers={HEADER: request.state.request_id})


async def answer(request: Request, error: ServiceError | SQLAlchemyError) -> JSONResponse:
    """Return the problem of an error that was met before the application was asked."""
    for kind, handler in ((ServiceError, _service), (DBAPIError, _database)):
        if isinstance(error, kind):
            return await handler(request, error)
    return await _unexpected(request, error)


def _completed(app: FastAPI) -> Callable[[], dict[str, Any]]:
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        # FastAPI documents the model of an error as plain JSON too, which is never sent.
        document = generate()
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if needed := NEEDED.get(f"{method.upper()} {path}"):
                    operation["security"] = [{"key": [needed]}]
                    operation["responses"] |= {str(status): _keyed(status) for status in (401, 403, 429)}
                for content in (reply.get("content", {}) for reply in operation["responses"].values()):
                    if MEDIA_TYPE in content:
                        content.pop("application/json", None)
        examples.add(document)
        return document

    return openapi


def install(app: FastAPI) -> None:
    """Make an application answer every error as a problem."""
    app.add_exception_handler(ServiceError, _service)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(DBAPIError, _database)
    app.add_exception_handler(Exception, _unexpected)
    app.openapi = _completed(app)  # type: ignore[method-assign]  # FastAPI's own way to change it
