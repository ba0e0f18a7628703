from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from app.api.scopes import NEEDED
from app.domain.keys import Scope
from app.main import create_app

PAIR = {"a": "torchvision:resnet50@none", "b": "timm:resnet50@none"}


@pytest.fixture
def client(settings, lines, monkeypatch):
    assert lines() == []
    application = create_app(settings)
    monkeypatch.setitem(NEEDED, "GET /breaks", Scope.READ)

    @application.get("/breaks")
    def breaks():
        raise RuntimeError("a fault of ours")

    with TestClient(application, raise_server_exceptions=False) as opened:
        yield opened


def test_a_request_is_one_line_with_the_id_that_is_returned(client, lines):
    reply = client.post("/v1/comparisons?x=1", json=PAIR, headers={"X-Request-Id": "ci-run_7.1"})
    assert reply.headers["x-request-id"] == "ci-run_7.1"
    (line,) = [each for each in lines() if each["event"] == "request"]
    assert line.pop("duration_ms") > 0
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "request_id": "ci-run_7.1",
        "method": "POST",
        "path": "/v1/comparisons",
        "route": "/v1/comparisons",
        "status": 202,
        "client": "testclient",
        "location": reply.headers["location"],
    }


@pytest.mark.parametrize("given", [None, "", "x" * 101, "a b", 'x"}', "../etc", "-x", "ä".encode()])
def test_an_id_is_made_where_none_fit_is_given(client, lines, given):
    reply = client.get("/livez", headers={} if given is None else {"X-Request-Id": given})
    made = reply.headers["x-request-id"]
    assert len(made) == 32
    assert [each["request_id"] for each in lines() if each["event"] == "request"] == [made]
    assert client.get("/livez").headers["x-request-id"] != made


def test_every_line_of_a_request_has_its_id(client, lines):
    reply = client.get("/breaks", headers={"X-Request-Id": "mine"})
    assert (reply.status_code, reply.headers["x-request-id"]) == (500, "mine")
    told = {each["event"]: each for each in lines() if each.get("request_id") == "mine"}
    assert set(told) == {"request", "unexpected error"}
    assert told["request"]["status"] == 500
    assert "a fault of ours" in told["unexpected error"]["exception"]
    assert "a fault of ours" not in reply.text
    client.get("/nope", headers={"X-Request-Id": "next"})
    assert [each["event"] for each in lines() if each.get("request_id") == "next"] == ["request"]


def test_a_caller_writes_no_line_of_the_log(client, lines):
    client.get("/v1/zoos/x%0A%7B%22event%22%3A%22forged%22%7D")
    assert [each["event"] for each in lines() if "request_id" in each] == ["request"]
    assert not [each for each in lines() if each["event"] == "forged"]
