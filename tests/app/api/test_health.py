from __future__ import annotations

import socket

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.db.migrate import head
from app.main import create_app
from app.settings import Settings


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def at(database, revision):
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def not_ready(client):
    reply = client.get("/readyz")
    assert (reply.status_code, reply.headers["content-type"]) == (503, "application/problem+json")
    body = reply.json()
    assert body["type"] == "urn:zooaudit:not-ready"
    assert body["code_schema"] == head()
    return body["reason"], body["database_schema"], body["detail"]


def test_ready_with_the_schema_of_this_version(client):
    assert client.get("/readyz").json() == {"status": "ready", "schema_version": head()}


def test_an_older_schema_is_told_with_what_to_do(client, database):
    at(database, "0004")
    told, has, detail = not_ready(client)
    assert (told, has) == ("too_old", "0004")
    assert "run zooaudit migrate" in detail
    assert "0004" in detail
    assert head() in detail
    at(database, head())
    assert client.get("/readyz").status_code == 200


def test_ready_after_the_next_version_has_migrated_and_the_log_warns(client, database, lines):
    at(database, "9999")
    reply = client.get("/readyz")
    assert (reply.status_code, reply.json()) == (200, {"status": "ready", "schema_version": "9999"})
    (warning,) = [line for line in lines() if line["level"] == "warning"]
    assert (warning["database"], warning["needs"]) == ("9999", head())


def test_a_database_without_tables_is_told(client, database):
    with database.engine.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    reason, has, detail = not_ready(client)
    assert (reason, has) == ("no_schema", None)
    assert "run zooaudit migrate" in detail


@pytest.fixture(params=["refused", "silent"])
def gone(request):
    """Yield the port of a database that refuses connections, or takes them and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "silent":
            listener.listen()
        yield listener.getsockname()[1]


def test_live_without_a_database(gone, tmp_path):
    settings = Settings(
        data_dir=tmp_path,
        database_url=f"postgresql://nobody:secret@127.0.0.1:{gone}/none",
        # With a broker the service creates no schema at its start.
        broker_url="redis://127.0.0.1:1",
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        assert client.get("/livez").json() == {"status": "live"}
        reason, has, detail = not_ready(client)
        assert (reason, has) == ("unreachable", None)
        assert "secret" not in detail
        assert client.get("/livez").status_code == 200
