"""Who may come in: keys, their allowances, and the rule for a service without keys, in terms of ASGI.

Every request passes here, whichever route it means and however the server was started. What a key may do there is
decided when the route is known (``allowed``).
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from structlog.contextvars import bind_contextvars

from app.api.problems import answer
from app.api.scopes import NEEDED, OPEN
from app.domain.keys import Allowance, Scope
from app.errors import ForbiddenError, ServiceError
from app.services import activity, keyring
from app.services.activity import Deed
from app.services.keyring import NOBODY, Keyring, Known

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Send
    from starlette.types import Scope as Connection

    from app.services.backlog import Backlog

NO_KEYS = (
    "There are no API keys, so only this machine may use the service, at a loopback address and through no proxy. Make "
    "the first key with `zooaudit keys create NAME --team TEAM --scope admin`, where the database can be reached."
)
ACCEPTED = 202
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

_log = structlog.get_logger(__name__)


class Guard:
    """Lets in who has a valid key and something left of its allowance. ``request.state.caller`` is then who it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        ring: Keyring = scope["app"].state.keyring
        state = scope["state"]
        try:
            caller = state["caller"] = await _caller(ring, scope)
            if caller.id is not None:
                bind_contextvars(key=str(caller.id), team=caller.team)
                await take(ring, caller, Allowance.REQUESTS)
        except (ServiceError, SQLAlchemyError) as error:
            refused = await answer(Request(scope), error)
            await refused(scope, receive, send)
            return
        status, made = 500, None

        async def answering(message: Message) -> None:
            nonlocal status, made
            if message["type"] == "http.response.start":
                status, made = message["status"], Headers(raw=message["headers"]).get("location")
            await send(message)

        try:
            await self._app(scope, receive, answering)
        finally:
            if state.get("submission") and status != ACCEPTED:
                ring.give_back(caller, Allowance.SUBMISSIONS)
            if state.get("needs") in {Scope.SUBMIT, Scope.ADMIN} and not state.get("noted"):
                await run_in_threadpool(_note, scope, deed(scope, status, made))


async def _caller(ring: Keyring, scope: Connection) -> Known:
    found = ring.remembers_any()
    if found is None:
        found = await run_in_threadpool(ring.any_exist)
    headers = Headers(scope=scope)
    if not found:
        check_local(scope, headers)
        return NOBODY
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token:
        raise keyring.no_key()
    known = ring.remembered(token)
    if known is None:
        known = await run_in_threadpool(ring.look_up, token)
    keyring.check_valid(known)
    return known


async def take(ring: Keyring, caller: Known, allowance: Allowance) -> None:
    """Take one of a caller's allowance; raises TooManyRequestsError."""
    while not ring.take(caller, allowance):
        await run_in_threadpool(ring.fetch, caller, allowance)


async def _enter(backlog: Backlog, team: str) -> None:
    while not backlog.enter(team):
        await run_in_threadpool(backlog.count, team)


async def allowed(request: Request) -> None:
    """Raise ForbiddenError unless the caller's scope allows the route; take a submission where it queues work."""
    route = request.scope["route"]
    if route.path in OPEN:
        return
    caller: Known = request.state.caller
    needed = NEEDED.get(f"{request.method} {route.path}")
    request.scope["state"]["needs"] = needed
    if needed is None:
        raise ForbiddenError(f"{request.method} {route.path} is for no scope of keys.", slug="no-scope")
    if not caller.scope.allows(needed):
        raise ForbiddenError(
            f"This API key has the scope {caller.scope}, and {request.method} {route.path} needs {needed}; "
            "ask for such a key.",
            slug="scope",
            headers={"WWW-Authenticate": f'Bearer realm="zooaudit", error="insufficient_scope", scope="{needed}"'},
        )
    if getattr(route, "status_code", None) == ACCEPTED:
        if caller.id is not None:
            await _enter(request.app.state.backlog, caller.team)
        await take(request.app.state.keyring, caller, Allowance.SUBMISSIONS)
        request.scope["state"]["submission"] = True


def deed(scope: Connection, status: int, made: str | None) -> Deed:
    """Return what a request did, for the record."""
    caller: Known = scope["state"]["caller"]
    return Deed(
        key_id=caller.id,
        team=caller.team,
        method=scope["method"],
        route=getattr(scope.get("route"), "path", ""),
        path=scope["path"],
        made=made,
        status=status,
        client=(scope.get("client") or (None,))[0],
        request_id=scope["state"]["request_id"],
    )


def _note(scope: Connection, done: Deed) -> None:
    try:
        with scope["app"].state.database.write() as session:
            activity.add(session, done)
    except SQLAlchemyError as error:
        _log.error("activity not stored", error=str(error), **vars(done) | {"key_id": str(done.key_id)})


def check_local(scope: Connection, headers: Headers) -> None:
    """Raise ForbiddenError unless a request comes from this machine, and not from a stranger's page in its browser.

    A page may have its name resolved to a loopback address (DNS rebinding): its requests name its host. Or it posts
    here across origins: its requests name its origin.
    """
    ends = [(scope.get(end) or ("unknown",))[0] for end in ("server", "client")]
    if not all(_is_local(end) for end in ends) or any(name in headers for name in _FORWARDED):
        raise ForbiddenError(NO_KEYS, slug="no-keys")
    host = headers.get("host", "")
    if _hostname(host) not in _LOCAL_NAMES | {ends[0]}:
        raise ForbiddenError(
            f"Without API keys the service answers to localhost only, not to {host!r}.", slug="foreign-host"
        )
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise ForbiddenError(
            f"Without API keys a page of {origin!r} may ask this service nothing.", slug="foreign-origin"
        )


def is_loopback(host: str) -> bool:
    """Whether a server that listens there is reached from its own machine only."""
    return host == "localhost" or (_address(host) is not None and _is_local(host))


def _is_local(end: str) -> bool:
    """Whether one end of a connection is on this machine: a loopback address.

    What is no address at all names no socket: a call within the process. A server always tells the address.
    """
    address = _address(end)
    return end != "unknown" if address is None else address.is_loopback


def _address(text: str) -> Any:  # noqa: ANN401 - of either version
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _hostname(host: str) -> str:
    """Return a Host header without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()
