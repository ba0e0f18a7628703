"""What strangers send: each of these was once answered with something that the OpenAPI does not have."""

from __future__ import annotations

import base64
import json

import pytest
from fastapi.testclient import TestClient

from app.main import create_app


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def refused(reply, status=422):
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    return reply.json()


@pytest.mark.parametrize(
    "body", [b"\xff&", b"[" * 100_000, b'{"a": 1' + b"0" * 5000 + b"}", b'{"a": "\\ud800"}', b"", b"{", b"nan"]
)
def test_bodies_that_are_no_json_are_malformed_requests(client, body):
    for path in ("/v1/comparisons", "/v1/policies", "/v1/schedules", "/v1/predictions/imports"):
        reply = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert refused(reply)["type"] == "urn:zooaudit:malformed-request"


@pytest.mark.parametrize(
    "time", ["0.5", "1700000000", "-1", "0001-01-01T00:00:00+14:00", "2026-01-01", "9999999999999"]
)
def test_a_time_is_written_out_with_its_zone(client, time):
    for path in ("/v1/findings", "/v1/comparisons", "/v1/audits"):
        for name in ("since", "until"):
            refused(client.get(path, params={name: time}))
    assert client.get("/v1/findings", params={"since": "2026-01-01T00:00:00Z"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/audits", "GET, POST"),
        ("/v1/schedules/0197b1f6-3a52-7c4e-9d0e-6f2f4a1c8b7d", "GET, PATCH, DELETE"),
        ("/v1/zoos", "GET"),
    ],
)
def test_allow_names_every_method_of_a_path(client, path, methods):
    reply = client.options(path)
    refused(reply, 405)
    assert reply.headers["allow"] == methods


@pytest.mark.parametrize("limit", ["-1", "0", "2001", "9" * 400, "1e3", "NaN"])
def test_impossible_limits_are_refused(client, limit):
    for path in ("/v1/findings", "/v1/listings", "/v1/trends?ref=a:b"):
        refused(client.get(path, params={"limit": limit, "ref": "a:b"} if "trends" in path else {"limit": limit}))


@pytest.mark.parametrize(
    "value", [["-created_at", "2026-01-01T00:00:00+00:00"], "x" * 3000, {"a": [[[]]] * 50}, 10**400]
)
def test_foreign_cursors_are_refused(client, value):
    cursor = base64.urlsafe_b64encode(json.dumps(value).encode()).decode()
    for path in ("/v1/findings", "/v1/comparisons", "/v1/listings"):
        refused(client.get(path, params={"cursor": cursor}))


def test_a_number_is_no_truth_value_nor_text(client):
    pair = {"a": "torchvision:resnet50@none", "b": "timm:resnet50@none", "dimensions": ["latency"]}
    webhook = {"url": "https://hooks.example.com/x", "events": ["audit.ended"]}
    schedule = {"name": "n", "cron": "0 3 * * *", "request": {"zoos": ["timm", "keras"]}}
    made = client.post("/v1/webhooks", json=webhook).headers["Location"]
    for path, body in (
        (f"{made}/secret", {"overlap_s": False}),
        ("/v1/comparisons", pair | {"latency_budget_s": "60"}),
        ("/v1/comparisons", pair | {"operating_points": [{"runtime": "torch", "batch": True}]}),
        ("/v1/webhooks", webhook | {"enabled": "yes"}),
        ("/v1/schedules", schedule | {"enabled": 1}),
        ("/v1/policies", {"name": "n", "accuracy_margin": True}),
        *(
            ("/v1/keys", {"name": "n", "team": "red", "scope": "read", name: True})
            for name in ("expires_in_days", "requests_per_minute", "submissions_per_day")
        ),
    ):
        assert refused(client.post(path, json=body))["type"] == "urn:zooaudit:malformed-request", (path, body)
