"""Webhooks over REST, and what each event says; sending them is tested in tests/workers/sending."""

from __future__ import annotations

import json
import re
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from app.db import audit_rows, comparisons
from app.db.clock import now
from app.db.schedule_tables import AuditListing, ListingVersion, Schedule
from app.db.webhook_tables import Webhook, WebhookDelivery, WebhookEvent
from app.domain.webhooks import Event, headers
from app.main import create_app
from app.services import schedules, telling

HOOK = {"url": "https://hooks.example.com/zooaudit", "events": ["audit.ended"]}
AUDIT = {"zoos": ["torchvision", "keras"], "models": ["resnet50"], "weights": "none", "dimensions": ["architecture"]}
PAIR = {"a": "torchvision:alexnet@none", "b": "timm:alexnet@none", "dimensions": ["architecture"]}


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def problem(reply, status, slug):
    assert reply.status_code == status, reply.text
    assert reply.json()["type"] == f"urn:zooaudit:{slug}"
    return reply.json()["detail"]


def add(client, expected=201, key=None, **changed):
    reply = client.post("/v1/webhooks", json=HOOK | changed, headers={} if key is None else {"Idempotency-Key": key})
    assert reply.status_code == expected, reply.text
    return reply


def test_the_secret_is_shown_once(client):
    reply = add(client, key="k")
    added = reply.json()
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", added["secret"])
    again = add(client, key="k").json()
    assert (again["id"], again["secret"]) == (added["id"], None)
    where = reply.headers["Location"]
    shown = client.get(where).json()
    assert shown == {name: value for name, value in added.items() if name != "secret"}
    assert client.get("/v1/webhooks").json() == {"items": [shown], "next_cursor": None}
    changed = client.patch(where, json={"events": ["vetting.ended"], "description": "gate"}).json()
    assert (changed["events"], changed["description"], changed["url"]) == (["vetting.ended"], "gate", HOOK["url"])
    assert added["secret"] not in client.get("/v1/webhooks").text + json.dumps(changed)
    assert client.delete(where).status_code == 204
    for gone in (client.get(where), client.delete(where), client.get(f"{where}/deliveries")):
        assert "no webhook" in problem(gone, 404, "not-found")


@pytest.mark.parametrize(
    ("changed", "slug", "says"),
    [
        ({"url": "http://hooks.example.com/"}, "invalid-url", "write https"),
        ({"url": "https://user:secret@hooks.example.com/"}, "invalid-url", "no user, password"),
        ({"url": "https://hooks.example.com/#f"}, "invalid-url", "fragment"),
        ({"url": "https:///path"}, "invalid-url", "a host"),
        ({"url": "https://h:99999/"}, "invalid-url", "out of range"),
        ({"url": "https://[::1/"}, "invalid-url", "no address"),
        ({"url": "file:///etc/passwd"}, "invalid-url", "write https"),
        ({"url": "https://hööks.example.com/"}, "malformed-request", "body.url"),
        ({"url": "https://169.254.169.254/latest"}, "forbidden-address", "ZOOAUDIT_WEBHOOK_NETWORKS"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "forbidden-address", "public Internet"),
        ({"url": "https://[64:ff9b::7f00:1]/"}, "forbidden-address", "public Internet"),
        ({"events": []}, "malformed-request", "body.events"),
        ({"events": ["comparison.began"]}, "malformed-request", "comparison.ended"),
        ({"secret": "mine"}, "malformed-request", "body.secret"),
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_could_never_be_told_is_refused_in_a_sentence(client, changed, slug, says):
    assert says in problem(add(client, 422, **changed), 422, slug)
    if "secret" not in changed:
        where = add(client).headers["Location"]
        assert says in problem(client.patch(where, json=changed), 422, slug)


def test_a_new_secret_leaves_the_one_before_valid_for_a_while(client, database):
    first = add(client).json()
    where = f"/v1/webhooks/{first['id']}"
    second = client.post(f"{where}/secret", json={"overlap_s": 3600}).json()
    assert second["secret"] != first["secret"]
    with database.read() as session:
        row = session.scalar(select(Webhook))
        assert telling.valid_secrets(row, now()) == [second["secret"], first["secret"]]
        assert telling.valid_secrets(row, now() + timedelta(hours=2)) == [second["secret"]]
    assert datetime.fromisoformat(client.get(where).json()["old_secret_until"]) > now()
    assert client.post(f"{where}/secret", json={"overlap_s": 0}).json()["old_secret_until"] is None


def test_a_test_delivery_and_its_log(client, database):
    where = add(client).headers["Location"]
    reply = client.post(f"{where}/test")
    delivery = reply.json()
    assert (reply.status_code, delivery["type"], delivery["state"]) == (202, "webhook.test", "pending")
    one = f"{where}/deliveries/{delivery['id']}"
    assert client.get(one).json() == delivery
    assert client.get(f"{where}/deliveries").json() == {"items": [delivery], "next_cursor": None}
    assert client.get(f"{where}/deliveries?state=failed").json()["items"] == []
    assert "has not ended" in problem(client.post(f"{one}/redelivery"), 409, "not-ended")
    with database.write() as session:
        session.execute(update(WebhookDelivery).values(state="failed", next_attempt_at=None, attempts=10))
    again = client.post(f"{one}/redelivery")
    assert (again.status_code, again.json()["state"]) == (202, "pending")
    assert again.json()["message_id"] == delivery["message_id"]
    client.patch(where, json={"enabled": False})
    with database.write() as session:
        assert telling.claim(session, uuid.UUID(where.rpartition("/")[2]), lease_s=60) is None
    for action in ("test", f"deliveries/{delivery['id']}/redelivery"):
        assert "enable it first" in problem(client.post(f"{where}/{action}"), 409, "webhook-disabled")
    other = add(client).headers["Location"]
    problem(client.get(f"{other}/deliveries/{delivery['id']}"), 404, "not-found")


def test_what_waits_and_what_was_given_up_is_counted(client, database):
    def counted():
        lines = client.get("/metrics").text.splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if line.startswith("zooaudit_webhook"))

    assert counted() == {"zooaudit_webhook_messages_pending": "0.0", "zooaudit_webhooks_disabled": "0.0"}
    where = add(client).headers["Location"]
    client.post(f"{where}/test")
    found = counted()
    assert found.pop("zooaudit_webhook_messages_pending") == "1.0"
    assert 0 <= float(found["zooaudit_webhook_messages_oldest_seconds"]) < 60
    with database.write() as session:
        session.execute(update(Webhook).values(enabled=False, disabled_reason="r"))
    assert counted() == {"zooaudit_webhook_messages_pending": "0.0", "zooaudit_webhooks_disabled": "1.0"}


@pytest.fixture
def said(client, settings, database):
    """Return a function that takes every message that is due, as a sender does: types with data."""
    webhook = uuid.UUID(add(client, events=[str(event) for event in Event]).json()["id"])

    def take():
        found = []
        while True:
            with database.write() as session:
                claimed = telling.claim(session, webhook, lease_s=60)
            if claimed is None:
                return found
            with database.write() as session:
                if message := telling.message(session, settings, claimed):
                    found.append((json.loads(message.body)["type"], json.loads(message.body)["data"]))

    return take


def test_comparisons_and_vettings_are_told_when_they_end(client, database, said):
    comparison = client.post("/v1/comparisons", json=PAIR).json()["id"]
    ask = {"comparison_id": comparison, "policy": "drop-in-api"}
    before = client.post("/v1/vettings", json=ask).json()["id"]
    assert said() == []
    with database.write() as session:
        error = {"class": "subject", "code": "not-loadable", "message": "m"}
        assert comparisons.fail(session, uuid.UUID(comparison), error)
        assert not comparisons.fail(session, uuid.UUID(comparison), error), "once"
    (first, told), (second, vetted) = sorted(said())
    assert (first, second) == ("comparison.ended", "vetting.ended")
    assert told == {
        "id": comparison,
        "state": "failed",
        "verdict": None,
        "a": {"ref": "torchvision:alexnet@none"},
        "b": {"ref": "timm:alexnet@none"},
        "links": {"comparison": f"/v1/comparisons/{comparison}"},
    }
    assert (vetted["id"], vetted["state"], vetted["policy"]) == (before, "failed", "drop-in-api")
    assert vetted["links"] == {"vetting": f"/v1/vettings/{before}", "comparison": f"/v1/comparisons/{comparison}"}
    after = client.post("/v1/vettings", json=ask).json()["id"]
    assert [(kind, data["id"]) for kind, data in said()] == [("vetting.ended", after)]
    cancelled = client.post("/v1/comparisons", json=PAIR).json()["id"]
    client.post(f"/v1/comparisons/{cancelled}/cancel")
    assert [(data["id"], data["state"]) for _, data in said()] == [(cancelled, "cancelled")]


def test_an_audit_is_told_of_once_and_its_drift_when_there_is_some(client, settings, database, said):
    reply = client.post("/v1/schedules", json={"name": "n", "cron": "0 * * * *", "request": AUDIT})
    schedule_id = uuid.UUID(reply.json()["id"])
    told, ids = [], []
    for hour, listed in enumerate((["x:a"], ["x:a"], ["x:a", "x:b"])):
        at = datetime(2026, 5, 1, 3 + hour, tzinfo=UTC)
        with database.write() as session:
            session.execute(update(Schedule).values(next_due_at=at))
            run = schedules.submit_due(session, settings, schedule_id, at)
            for ref in listed:
                session.merge(ListingVersion(digest=ref.ljust(64), ref=ref, described={}))
                session.flush()
                session.add(AuditListing(audit_id=run.audit_id, digest=ref.ljust(64)))
        with database.write() as session:
            audit_rows.conclude(session, run.audit_id)
        ids.append(str(run.audit_id))
        told.append({kind: data for kind, data in said()})  # noqa: C416 - a second message of a type would be lost
    assert [sorted(each) for each in told] == [["audit.ended"], ["audit.ended"], ["audit.drifted", "audit.ended"]]
    assert told[0]["audit.ended"] == {
        "id": ids[0],
        "state": "succeeded",
        "zoos": ["torchvision", "keras"],
        "comparisons": 0,
        "verdicts": {},
        "links": {"audit": f"/v1/audits/{ids[0]}"},
    }
    drifted = told[2]["audit.drifted"]
    assert (drifted["id"], drifted["against"], drifted["summary"]["listings_new"]) == (ids[2], ids[1], 1)
    assert client.get(drifted["links"]["drift"]).json()["drifted"] is True
    with database.read() as session:
        kinds = list(session.scalars(select(WebhookEvent.type)))
    assert kinds.count("audit.drifted") == 1, "what was nothing to tell is forgotten"


def test_the_check_in_the_docs_accepts_what_is_sent_and_nothing_else():
    page = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names = {}
    exec(code, names)  # noqa: S102 - the page's own example
    verified = names["verified"]
    new, old, other = ("whsec_" + letter * 43 + "=" for letter in "ABC")
    at, body = int(time.time()), b'{"type":"audit.ended"}'
    sent = headers([new, old], message_id="msg_1", timestamp=at, body=body)
    assert verified(new, sent, body)
    assert verified(old, sent, body)
    assert not verified(other, sent, body)
    assert not verified(new, sent, body + b" ")
    assert not verified(new, sent | {"webhook-id": "msg_2"}, body)
    assert not verified(new, headers([new], message_id="msg_1", timestamp=at - 301, body=body), body)
