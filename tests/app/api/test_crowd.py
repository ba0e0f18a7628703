from __future__ import annotations

import asyncio

import httpx

from app.main import create_app
from app.settings import Settings

CROWD = 60


async def _ask(app, path):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as c,
    ):
        app.state.database.readers.pool._timeout = 3  # instead of half a minute
        replies = await asyncio.gather(*(c.get(path) for _ in range(CROWD)))
    return [reply.status_code for reply in replies]


def test_more_requests_than_connections_wait_for_their_turn(postgres_url, tmp_path):
    settings = Settings(data_dir=tmp_path, database_url=postgres_url)
    assert asyncio.run(_ask(create_app(settings), "/v1/comparisons")) == [200] * CROWD
