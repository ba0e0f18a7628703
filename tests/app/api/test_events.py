"""Server-sent events over a real server: what is told, in what order, to whom, and after a broken connection."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import uvicorn
from sqlalchemy import text

from app.api import feeds
from app.db import comparisons, jobs
from app.domain.states import FailureClass
from app.main import create_app

PAIR = {"a": "torchvision:resnet50@none", "b": "timm:resnet50@none", "dimensions": ["architecture"]}
WHO = {"worker": "w", "places": {"cpu": "here"}, "lease_s": 30.0}


@pytest.fixture
def app(settings, monkeypatch):
    monkeypatch.setattr(feeds, "EVERY_S", 0.05)
    return create_app(settings)


@pytest.fixture
def client(app):
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as opened:
        yield opened
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def submitted(client):
    return client.post("/v1/comparisons", json=PAIR).json()["id"]


def lines(client, where, last=None, stop=None):
    """Return the events of a stream until its end, or until ``stop`` of one is true: the connection then breaks."""
    found = []
    headers = {} if last is None else {"Last-Event-ID": last}
    with client.stream("GET", f"{where}/events", headers=headers) as reply:
        assert reply.status_code == 200, reply.read()
        assert reply.headers["content-type"].startswith("text/event-stream")
        event = {}
        deadline = time.monotonic() + 30
        for line in reply.iter_lines():
            assert time.monotonic() < deadline, "the stream does not end"
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                event[name] = value
            elif event:
                found.append((event["event"], json.loads(event["data"]), event["id"]))
                event = {}
                if stop is not None and stop(found[-1]):
                    break
    return found


def work(database, *, until=100):
    """Run what is ready as a worker would, job after job; return how many."""
    for done in range(until):
        with database.write() as session:
            claim = jobs.claim_next(session, device="cpu", **WHO)
        if claim is None:
            return done
        with database.write() as session:
            error = {"class": "subject", "code": "x", "message": "The model is broken."}
            jobs.fail(session, claim, FailureClass.SUBJECT, error, max_attempts=3)
            if claim.kind == "compare":
                comparisons.fail(session, claim.comparison_id, error)
    return until


def of_jobs(events):
    return [(data["kind"], data["state"]) for name, data, _ in events if name == "job"]


def test_a_comparison_is_followed_to_its_end(client, submitted, database):
    with ThreadPoolExecutor() as pool:
        following = pool.submit(lines, client, f"/v1/comparisons/{submitted}")
        assert work(database) == 3
        events = following.result(20)
    assert [name for name, _, _ in events][-1] == "end"
    assert events[-1][1] == {"state": "failed"}
    ended = [kind for kind, state in of_jobs(events) if state == "failed"]
    assert sorted(ended[:2]) == ["inspect", "inspect"]
    assert ended[2:] == ["compare"]
    told = [data for name, data, _ in events if name == "progress"]
    assert [each["done"] for each in told] == sorted(each["done"] for each in told)
    assert (told[-1]["done"], told[-1]["total"], told[-1]["state"]) == (3, 3, "failed")


def test_a_broken_connection_goes_on_without_gap_or_repeat(client, submitted, database):
    where = f"/v1/comparisons/{submitted}"
    work(database, until=1)
    first = lines(client, where, stop=lambda event: event[0] == "progress" and event[1]["done"] == 1)
    work(database)
    rest = lines(client, where, last=first[-1][2])
    assert of_jobs(first) == [("inspect", "failed")]
    assert of_jobs(rest) == [("inspect", "failed"), ("compare", "failed")]
    ids = [each for _, _, each in (*first, *rest)]
    assert len(ids) == len(set(ids))
    for number in range(1, len(rest)):  # from every place, as another process has it that nobody watches
        assert lines(client, where, last=rest[number - 1][2]) == rest[number:]


def test_what_has_ended_asks_nobody_to_come_again(client, submitted, database):
    work(database)
    where = f"/v1/comparisons/{submitted}/events"
    assert client.get(where, headers={"Last-Event-ID": "end"}).status_code == 204
    assert client.get(where, headers={"Last-Event-ID": "nonsense"}).status_code == 422
    assert client.get(where.replace(submitted, "01a1ff61-f588-724b-b282-efee21dfad7d")).status_code == 404


def test_an_audit_is_followed_until_it_is_cancelled(client):
    audit = client.post("/v1/audits", json={"zoos": ["timm", "keras"], "dimensions": ["architecture"]}).json()["id"]
    with ThreadPoolExecutor() as pool:
        following = pool.submit(lines, client, f"/v1/audits/{audit}")
        time.sleep(0.3)
        client.post(f"/v1/audits/{audit}/cancel")
        events = following.result(20)
    assert events[-1][:2] == ("end", {"state": "cancelled"})


def test_many_viewers_hold_no_connection(app, client, submitted, database):
    where = f"/v1/comparisons/{submitted}"
    with ThreadPoolExecutor(60) as pool:
        following = [pool.submit(lines, client, where) for _ in range(60)]
        try:
            deadline = time.monotonic() + 20
            while not (watched := app.state.feeds._open) or next(iter(watched.values())).viewers < 60:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert len(watched) == 1, "they share one feed"
            assert app.state.database.readers.pool.checkedout() <= 1
        finally:
            work(database)  # else the viewers would stay for ever
        assert len({str(each.result(20)) for each in following}) == 1
    assert app.state.feeds._open == {}


def test_silence_is_filled(client, submitted, monkeypatch):
    monkeypatch.setattr(feeds, "PING_S", 0.1)
    with client.stream("GET", f"/v1/comparisons/{submitted}/events") as reply:
        comments = (line for line in reply.iter_lines() if line.startswith(":"))
        assert next(comments) == ": ping"


def test_a_change_that_commits_late_is_not_passed_over(client, submitted, database):
    """On Postgres transactions may commit in another order than they began."""
    if database.engine.dialect.name != "postgresql":
        pytest.skip("SQLite lets one transaction write at a time")
    with database.write() as session:
        early, late = (jobs.claim_next(session, device="cpu", **WHO) for _ in range(2))
    where = f"/v1/comparisons/{submitted}"
    with ThreadPoolExecutor() as pool:
        with database.write() as slow:
            slow.execute(text("SELECT pg_current_xact_id()"))
            jobs.fail(slow, early, FailureClass.SUBJECT, {"code": "x"}, max_attempts=3)
            with database.write() as quick:
                jobs.fail(quick, late, FailureClass.SUBJECT, {"code": "x"}, max_attempts=3)
            following = pool.submit(lines, client, where, None, lambda event: event[1].get("done") == 2)
            time.sleep(0.5)
        first = following.result(20)
        failed = [each[1]["id"] for each in first if each[1].get("state") == "failed" and each[0] == "job"]
        assert sorted(failed) == sorted([str(early.id), str(late.id)])
        work(database)
        assert of_jobs(lines(client, where, last=first[-1][2])) == [("compare", "failed")]
