"""Each request's id, its one line in the log and its place in the metrics."""

from __future__ import annotations

import re
import time
import uuid
from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import Headers, MutableHeaders
from structlog.contextvars import bind_contextvars, clear_contextvars

from app import tracing

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from app.api.metrics import Metrics

HEADER = "X-Request-Id"
NO_ROUTE = "none"
"""Stands for the route of a path that no route has: strangers choose paths, and each would be a series of its own."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_log = structlog.get_logger(__name__)


class Access:
    """The outermost part of the application, in terms of ASGI.

    The caller's request id is taken when it is 1 to 100 letters, digits, dots, dashes and underscores, else one is
    made. It is bound to every line that is logged for the request, whose task has a context of its own.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get(HEADER))
        clear_contextvars()
        bind_contextvars(request_id=request_id)
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        ended: float | None = None
        answer = Headers()
        # What ends without an answer is answered with 500 further out.
        status = 500

        async def answering(message: Message) -> None:
            nonlocal answer, status, ended
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
                answer, status = Headers(raw=message["headers"]), message["status"]
            await send(message)
            # What the application does after its answer, such as ringing the broker, is not waited for.
            if message["type"] == "http.response.body" and not message.get("more_body"):
                ended = time.perf_counter()

        # A caller's own trace goes on here.
        begun = {"url.path": scope["path"], "http.request.method": scope["method"], "zooaudit.request": request_id}
        caller = Headers(scope=scope).get("traceparent")
        with tracing.span(scope["method"], kind="SERVER", parent=caller, attributes=begun):
            try:
                await self._app(scope, receive, answering)
            finally:
                self._tell(scope, status, (ended or time.perf_counter()) - started, made=answer.get("location"))

    def _tell(self, scope: Scope, status: int, seconds: float, *, made: str | None) -> None:
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.answered(method, route, status, seconds)
        tracing.named(f"{method} {route}", **{"http.route": route, "http.response.status_code": status})
        extra = {} if made is None else {"location": made}
        _log.info(
            "request",
            method=scope["method"],
            path=scope["path"],
            route=route,
            status=status,
            duration_ms=round(1000 * seconds, 3),
            client=(scope.get("client") or (None,))[0],
            **extra,
        )


def _request_id(given: str | None) -> str:
    return given if given is not None and _ID.fullmatch(given) else uuid.uuid4().hex
