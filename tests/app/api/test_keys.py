from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from app.api import guard
from app.db import job_counts
from app.db.paging import Selection
from app.domain.keys import Allowance, digest, is_token, new_token, without_tokens
from app.errors import ForbiddenError, TooManyRequestsError
from app.main import create_app
from app.services import backlog, keyring, keys
from app.services.keyring import Keyring

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what is refused


@pytest.fixture
def make(database, settings):
    """Return ``make(scope, team, **limits)``, which makes a key and returns its headers."""

    def made(scope, team="red", **limits):
        request = {"name": "k", "team": team, "scope": scope, "expires_in_days": 1}
        with database.write() as session:
            return {"Authorization": f"Bearer {keys.create(session, settings, request | limits)['token']}"}

    return made


def test_a_key_is_recognised_and_never_stored():
    token = new_token()
    assert is_token(token)
    assert not is_token(token[:-1])
    assert len({new_token() for _ in range(100)}) == 100
    assert digest(token) == digest(token) != token
    assert without_tokens(f"/x/{token}/y") == f"/x/{token[:15]}…/y"


def test_the_first_key_ends_the_time_without_keys(settings, make):
    with TestClient(create_app(settings)) as client:
        assert client.get("/v1/zoos").status_code == 200
        body = {"name": "first", "team": "red", "scope": "admin"}
        made = client.post("/v1/keys", json=body).json()
        assert client.get("/v1/zoos").status_code == 401
        admin = {"Authorization": f"Bearer {made['token']}"}
        assert client.get("/v1/zoos", headers=admin).status_code == 200
        revoked = client.post(f"/v1/keys/{made['id']}/revoke", headers=admin)
        assert revoked.json()["state"] == "revoked"
        assert client.get("/v1/zoos", headers=admin).status_code == 401
        assert client.get("/v1/zoos").status_code == 401, "with its last key revoked a service is not open again"
        assert client.get("/v1/keys", headers=make("admin")).json()["items"][-1]["last_used_on"] is not None


def test_a_key_that_is_asked_for_twice_is_made_once_and_shown_once(settings, make):
    headers = make("admin") | {"Idempotency-Key": "k"}
    body = {"name": "CI", "team": "red", "scope": "read"}
    with TestClient(create_app(settings)) as client:
        first, again = (client.post("/v1/keys", json=body, headers=headers) for _ in range(2))
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.json() == first.json() | {"token": None}
        assert is_token(first.json()["token"])
        assert again.headers["Location"] == first.headers["Location"]
        assert len(client.get("/v1/keys?scope=read", headers=headers).json()["items"]) == 1
        other = client.post("/v1/keys", json=body | {"scope": "admin"}, headers=headers)
        assert (other.status_code, other.json()["type"]) == (422, "urn:zooaudit:idempotency-key-reused")


def test_another_process_notices_a_revoked_key_in_time(settings, database, make, monkeypatch):
    headers = make("read")
    with TestClient(create_app(settings)) as client:
        assert client.get("/v1/zoos", headers=headers).status_code == 200
        with database.write() as session:
            (key,) = keys.find(session, Selection())["items"]
            keys.revoke(session, uuid.UUID(key["id"]))
        assert client.get("/v1/zoos", headers=headers).status_code == 200
        monkeypatch.setattr(keyring, "REMEMBERED_S", 0.0)
        assert client.get("/v1/zoos", headers=headers).status_code == 401


def test_an_allowance_holds_over_several_processes(database, make):
    token = make("submit", submissions_per_day=40)["Authorization"].removeprefix("Bearer ")
    rings = [Keyring(database), Keyring(database)]
    known = [ring.look_up(token) for ring in rings]
    taken = [took(ring, each) for _ in range(30) for ring, each in zip(rings, known, strict=True)]
    assert taken.count(True) == 40, "not one more, and none left lying in a process that others wanted"


def took(ring, known):
    try:
        while not ring.take(known, Allowance.SUBMISSIONS):
            ring.fetch(known, Allowance.SUBMISSIONS)
    except TooManyRequestsError:
        return False
    return True


def test_requests_that_come_at_once_take_one_part_of_an_allowance(database, make):
    token = make("submit", submissions_per_day=1000)["Authorization"].removeprefix("Bearer ")
    ring, other = Keyring(database), Keyring(database)
    known = ring.look_up(token)
    together = threading.Barrier(8)

    def ask(_request):
        assert not ring.take(known, Allowance.SUBMISSIONS)
        together.wait()
        ring.fetch(known, Allowance.SUBMISSIONS)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(8)))
    # Had each taken a part, a third of the day's or more would lie in one process.
    assert sum(took(other, known) for _ in range(1000)) == 950


def test_who_asks_too_often_is_told_when_to_come_back(settings, make):
    headers = make("read", requests_per_minute=1)
    with TestClient(create_app(settings)) as client:
        replies = [client.get("/v1/zoos", headers=headers) for _ in range(4)]
    assert replies[0].status_code == 200
    refused = [reply for reply in replies if reply.status_code == 429]
    assert len(refused) >= 2, "four requests are in two minutes at most"
    assert refused[0].json()["type"] == "urn:zooaudit:too-many-requests"
    assert 1 <= int(refused[0].headers["Retry-After"]) <= 60


def test_a_quota_counts_what_was_queued(settings, make):
    headers = make("submit", submissions_per_day=2)
    body = {"a": "torchvision:resnet50@none", "b": "timm:resnet50@none", "dimensions": ["architecture"]}
    with TestClient(create_app(settings)) as client:

        def ask(**changed):
            return client.post("/v1/comparisons", json=body | changed, headers=headers).status_code

        assert [ask(), ask(a="nonsense"), ask(), ask()] == [202, 422, 202, 429]
        refused = client.post("/v1/comparisons", json=body, headers=headers)
        assert 1 <= int(refused.headers["Retry-After"]) <= 86400
        assert client.get("/v1/comparisons", headers=headers).status_code == 200, "reading goes on"


def test_a_team_cannot_fill_the_queue(settings, database, make, monkeypatch):
    headers, other = make("submit"), make("submit", team="blue")
    # Reading its catalogs is everybody's; the audit is expanded for the team.
    body = {"zoos": ["timm", "keras"], "weights": "none"}
    with TestClient(create_app(settings.model_copy(update={"team_jobs": 2}))) as client:

        def ask(headers):
            return client.post("/v1/audits", json=body, headers=headers)

        made = [ask(headers) for _ in range(3)]
        assert [reply.status_code for reply in made] == [202, 202, 429]
        assert made[-1].json()["type"] == "urn:zooaudit:queue-full"
        assert int(made[-1].headers["Retry-After"]) > 0
        assert ask(other).status_code == 202, "the other team's work goes on"
        monkeypatch.setattr(backlog, "COUNTED_S", 0.1)
        time.sleep(0.1)
        assert ask(headers).status_code == 429, "counted again it is as much"
        assert client.get("/v1/audits", headers=headers).status_code == 200
        assert client.post(f"{made[0].headers['Location']}/cancel", headers=headers).status_code == 200
        time.sleep(0.1)
        assert ask(headers).status_code == 202
        with database.read() as session:
            assert job_counts.unfinished(session, "red", most=100) == 2


def test_a_teams_jobs_are_counted_once_for_all_who_ask_at_once(database, monkeypatch):
    counts = []
    monkeypatch.setattr(backlog.job_counts, "unfinished", lambda *_asked, **_most: (counts.append(1), 0)[1])
    entering = backlog.Backlog(database, 10)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(entering.count, ["red"] * 8))
    assert len(counts) == 1
    assert entering.enter("red")


def test_most_requests_ask_the_database_nothing(database, make, monkeypatch):
    token = make("submit", submissions_per_day=6000)["Authorization"].removeprefix("Bearer ")
    ring = Keyring(database)
    known = ring.look_up(token)
    fetches = []
    fetch = ring.fetch
    monkeypatch.setattr(ring, "fetch", lambda *asked: (fetches.append(asked), fetch(*asked)))
    assert all(took(ring, known) for _ in range(6000))
    assert len(fetches) < 150
    assert not took(ring, known)
    assert ring.remembered(token) == known


def connection(server=("127.0.0.1", 8000), client=("127.0.0.1", 40000), **headers):
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "path": "/v1/zoos", "server": server, "client": client, "headers": raw}


def check(scope):
    guard.check_local(scope, guard.Headers(scope=scope))


@pytest.mark.parametrize(
    "scope",
    [
        connection(host="localhost:8000"),
        connection(host="127.0.0.1:8000", origin="http://127.0.0.1:8000"),
        connection(server=("::1", 8000), client=("::1", 4), host="[::1]:8000"),
        connection(server=("::ffff:127.0.0.1", 8000), host="localhost:8000"),
        connection(server=("testserver", 80), client=("testclient", 50000), host="testserver"),
    ],
)
def test_without_keys_this_machine_is_served(scope):
    check(scope)


@pytest.mark.parametrize(
    ("scope", "slug"),
    [
        (connection(server=("192.168.1.5", 8000), host="localhost"), "no-keys"),
        (connection(server=(EVERYWHERE, 8000), host="localhost"), "no-keys"),
        (connection(server=None, host="localhost"), "no-keys"),
        (connection(client=("10.0.0.9", 1), host="localhost"), "no-keys"),
        (connection(client=None, host="localhost"), "no-keys"),
        (connection(host="localhost", x_forwarded_for="1.2.3.4"), "no-keys"),
        (connection(host="rebound.example:8000"), "foreign-host"),
        (connection(host="localhost.evil.example"), "foreign-host"),
        (connection(), "foreign-host"),
        (connection(host="localhost:8000", origin="https://evil.example"), "foreign-origin"),
        (connection(host="localhost:8000", origin="http://localhost:3000"), "foreign-origin"),
        (connection(host="localhost:8000", origin="null"), "foreign-origin"),
    ],
)
def test_without_keys_strangers_and_their_pages_are_refused(scope, slug):
    with pytest.raises(ForbiddenError) as refused:
        check(scope)
    assert refused.value.slug == slug


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost")),
        *((host, False) for host in (EVERYWHERE, "::", "192.168.0.1", "example.org", "")),
    ],
)
def test_an_address_is_loopback_or_not(host, local):
    assert guard.is_loopback(host) is local


def command(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("ZOOAUDIT_")} | environment,
    )


def test_serving_strangers_takes_a_key(tmp_path):
    refused = command("serve", "--host", EVERYWHERE, "--port", "0", ZOOAUDIT_DATA_DIR=str(tmp_path))
    assert refused.returncode == 2
    assert "zooaudit keys create" in refused.stderr


def test_a_production_service_does_not_start_without_keys(settings, make, monkeypatch):
    for name, value in {
        "ZOOAUDIT_DATABASE_URL": str(settings.database_url),
        "ZOOAUDIT_BROKER_URL": "redis://127.0.0.1:1/0",
        "ZOOAUDIT_DATA_DIR": str(settings.data_dir),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("app.logs.configure", lambda: None)
    with pytest.raises(Exception, match="zooaudit keys create"), TestClient(create_app()):
        pass
    headers = make("read")
    with TestClient(create_app()) as client:
        assert client.get("/v1/zoos", headers=headers).status_code == 200


def test_an_embedded_service_without_keys_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOOAUDIT_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("app.logs.configure", lambda: None)
    with capture_logs() as found, TestClient(create_app()) as client:
        assert client.get("/v1/zoos").status_code == 200
    (said,) = [line for line in found if line["event"] == "no API keys"]
    assert "zooaudit keys create" in said["detail"]


def test_keys_on_the_command_line(tmp_path, open_command_line):
    with open_command_line(tmp_path / "data") as zooaudit:
        made = zooaudit("keys", "create", "first", "--scope", "admin", "--team", "red")
        assert is_token(made.stdout.strip())
        assert "shown this once" in made.stderr
        listed = zooaudit("keys", "list", "--json").stdout
        assert made.stdout.strip() not in listed
        (key,) = json.loads(listed)
        assert (key["team"], key["scope"], key["state"]) == ("red", "admin", "valid")
        revoked = json.loads(zooaudit("keys", "revoke", key["id"], "--json").stdout)
        assert revoked[0]["state"] == "revoked"
        assert "no team" in zooaudit("keys", "create", "x", "--scope", "read", "--team", "A B", status=2).stderr
        zooaudit("datasets", "list")
