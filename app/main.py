"""The API as an application factory: ``uvicorn --factory app.main:create_app``."""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import structlog
from anyio import to_thread
from fastapi import Depends, FastAPI
from sqlalchemy.exc import SQLAlchemyError

from app import logs, queue, tracing
from app.api import (
    audits,
    claims,
    comparisons,
    datasets,
    drift,
    findings,
    health,
    indexes,
    keys,
    latency,
    matrix,
    policies,
    predictions,
    problems,
    schedules,
    uploads,
    vettings,
    webhooks,
    zoos,
)
from app.api.access import Access
from app.api.feeds import Feeds
from app.api.guard import NO_KEYS, Guard, allowed
from app.api.metrics import Metrics
from app.db.migrate import upgrade
from app.db.session import Database
from app.errors import ServiceError
from app.services.backlog import Backlog
from app.services.keyring import Keyring
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_log = structlog.get_logger(__name__)

THREADS = 4
"""Requests that are worked on at the same time, each with a thread and a connection to the database.

Few, because threads of Python take turns too, and the one that reads and writes requests waits for all others
(docs/api.md, How fast). Fewer than the pool has connections (15): what looks something up
before it is a request's turn needs one too.
"""

COLLECTED = (10_000, 10, 100)
"""When garbage is looked for: objects made and kept, such looks, and those of middle-aged objects (``gc``).

With Python's own (700, 10, 10) all that was made since the start is looked through every two seconds under load, which
takes 20 ms.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application.

    Without settings this is a server's entry: they are read from the environment, and the process's logs are set up.

    The embedded default creates its own schema at the start; elsewhere ``zooaudit migrate`` does, once.
    """
    if settings is None:
        logs.configure()
        tracing.configure("zooaudit-api")
    chosen = settings or Settings()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        chosen.data_dir.mkdir(parents=True, exist_ok=True)
        database = Database(chosen.url)
        if chosen.embedded:
            upgrade(database)
        queue.prepare(chosen)
        app.state.database = database
        app.state.turns = asyncio.Semaphore(THREADS)
        app.state.feeds = Feeds(database)
        app.state.keyring = Keyring(database)
        app.state.backlog = Backlog(database, chosen.team_jobs)
        if settings is None:
            _tell_without_keys(app.state.keyring, may_start=chosen.embedded)
        with _collected_seldom(), metrics.of(database, chosen):
            yield
        database.dispose()

    app = FastAPI(
        title="Zoo Audit",
        version="1",
        summary="Measures whether same-named pretrained models of different zoos are interchangeable.",
        openapi_url="/v1/openapi.json",
        lifespan=lifespan,
        dependencies=[Depends(allowed)],
    )
    app.state.settings = chosen
    app.state.metrics = metrics
    app.add_middleware(Guard)
    app.add_middleware(Access, metrics=metrics)
    problems.install(app)
    # A path is looked up in this order: what is polled most comes first.
    for resource in (
        findings,
        comparisons,
        matrix,
        zoos,
        audits,
        claims,
        indexes,
        datasets,
        predictions,
        drift,
        schedules,
        latency,
        policies,
        uploads,
        vettings,
        webhooks,
        keys,
        health,
    ):
        app.include_router(resource.router)
    return app


@contextmanager
def _collected_seldom() -> Iterator[None]:
    """Have Python look for garbage seldom meanwhile, as each look stops all requests.

    What is there at the start lives as long as the service, and is not looked through at all.
    """
    usual = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*COLLECTED)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


def _tell_without_keys(keyring: Keyring, *, may_start: bool) -> None:
    """Say that there are no keys, or raise ServiceError where a service without any may not start.

    Which address the server will listen on nobody knows yet, so each request is judged by its own connection. So it is
    when the database does not answer.
    """
    try:
        if keyring.any_exist():
            return
    except SQLAlchemyError:
        return
    if not may_start:
        raise ServiceError(NO_KEYS, slug="no-keys")
    _log.warning("no API keys", detail=NO_KEYS)
