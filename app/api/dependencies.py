"""What routes get: settings, and a transaction that ends before the reply is sent."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, cast

from anyio import CancelScope, CapacityLimiter, to_thread
from fastapi import Depends, Header, Request, Response
from sqlalchemy.orm import Session

from app.api.feeds import ID, Feeds
from app.api.guard import deed
from app.db.session import Database
from app.services import activity
from app.services.keyring import NOBODY, Known
from app.services.submission import Caller
from app.settings import Settings

TEXT = r"^[^\x00]*$"
"""Text that both databases can hold."""


def _asking(request: Request) -> Known:
    # A path that asks for no key sees what is shared.
    return getattr(request.state, "caller", NOBODY)


# Those that take no time are coroutines: FastAPI gives any other a thread of its own to run on.
async def database(request: Request) -> Database:
    """Return the application's database as the caller's team sees it."""
    return cast("Database", request.app.state.database).of(_asking(request).team)


async def settings(request: Request) -> Settings:
    """Return the application's settings."""
    return cast("Settings", request.app.state.settings)


async def _feeds(request: Request) -> Feeds:
    return cast("Feeds", request.app.state.feeds)


OfDatabase = Annotated[Database, Depends(database)]


# A request holds its connection while it waits for a thread: to read its rows, to check its answer, to end. With more
# requests at it than that, the threads could all wait for connections that only they would set free.
async def _reading(source: OfDatabase, request: Request) -> AsyncIterator[Session]:
    async with request.app.state.turns:
        with source.read() as session:
            yield session


async def _writing(source: OfDatabase, request: Request, response: Response) -> AsyncIterator[Session]:
    async with request.app.state.turns, AsyncExitStack() as at_end:
        opened = _noted(source, request, response)
        # To open a transaction asks nothing of the database; its end does, and has a thread whatever others wait for.
        session = opened.__enter__()
        at_end.push_async_exit(partial(_ended_in_thread, opened))
        yield session


async def _ended_in_thread(opened: AbstractContextManager[Session], *raised: Any) -> Any:  # noqa: ANN401 - of __exit__
    with CancelScope(shield=True):
        return await to_thread.run_sync(opened.__exit__, *raised, limiter=CapacityLimiter(1))


@contextmanager
def _noted(source: Database, request: Request, response: Response) -> Iterator[Session]:
    with source.write() as session:
        yield session
        # What was done is stored with what it did, or neither is.
        status = response.status_code or request.scope["route"].status_code or HTTPStatus.OK
        activity.add(session, deed(request.scope, status, response.headers.get("location")))
    request.state.noted = True


async def _caller(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            description="The same key with the same request makes one thing, however often it is sent.",
            examples=["8e03978e-40d5-43dd-bc93-6894a57f9324"],
        ),
    ] = None,
) -> Caller:
    key_id = _asking(request).id
    return Caller(key=key) if key_id is None else Caller(f"key {key_id}", key)


# scope="function": the default would commit after the reply was sent, and could then not tell of a failure.
Reading = Annotated[Session, Depends(_reading, scope="function")]
Writing = Annotated[Session, Depends(_writing, scope="function")]
OfSettings = Annotated[Settings, Depends(settings)]
OfCaller = Annotated[Caller, Depends(_caller)]

OfFeeds = Annotated[Feeds, Depends(_feeds)]
LastEventId = Annotated[
    str | None,
    Header(pattern=ID, description="Id of the last event that was received: the stream goes on after it."),
]
