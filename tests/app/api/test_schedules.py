from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from app.db import audits as audit_rows
from app.db import schedules as rows
from app.db.schedule_tables import AuditListing, ListingVersion, Schedule
from app.db.tables import Audit, Comparison, Finding
from app.domain.ids import new_id
from app.main import create_app
from app.services import schedules

REQUEST = {"zoos": ["torchvision", "keras"], "models": ["resnet50"], "weights": "none", "dimensions": ["architecture"]}
NIGHTLY = {"name": "nightly", "cron": "0 3 * * *", "time_zone": "Europe/Berlin", "request": REQUEST}


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def problem(reply, status, slug):
    assert reply.status_code == status, reply.text
    assert reply.json()["type"] == f"urn:zooaudit:{slug}"
    return reply.json()["detail"]


def add(client, expected=201, key=None, **changed):
    headers = {} if key is None else {"Idempotency-Key": key}
    reply = client.post("/v1/schedules", json=NIGHTLY | changed, headers=headers)
    assert reply.status_code == expected, reply.text
    return reply


def test_a_schedule_is_added_listed_and_deleted(client):
    reply = add(client)
    added = reply.json()
    assert added | NIGHTLY == added
    assert (added["missed"], added["enabled"], added["last_run"]) == ("latest", True, None)
    due = datetime.fromisoformat(added["next_due_at"])
    assert due.astimezone(UTC).hour in {1, 2}, "03:00 in Berlin"
    assert timedelta(0) < due - datetime.now(UTC) <= timedelta(hours=25)
    where = reply.headers["Location"]
    assert client.get(where).json() == added
    assert client.get("/v1/schedules").json() == {"items": [added], "next_cursor": None}
    assert client.get(f"{where}/runs").json() == {"items": [], "next_cursor": None}
    gone = client.delete(where)
    assert (gone.status_code, gone.content) == (204, b"")
    for reply in (client.get(where), client.delete(where), client.get(f"{where}/runs")):
        assert "no schedule" in problem(reply, 404, "not-found")


def test_the_same_key_adds_one_schedule_and_a_name_is_taken_once(client):
    first = add(client, key="k").json()
    assert add(client, key="k").json()["id"] == first["id"]
    assert "another name" in problem(add(client, 409), 409, "schedule-exists")


@pytest.mark.parametrize(
    ("changed", "slug", "says"),
    [
        ({"cron": "0 3 * *"}, "invalid-schedule", "write five fields"),
        ({"cron": "0 25 * * *"}, "invalid-schedule", "The hour of the cron expression"),
        ({"time_zone": "Berlin"}, "invalid-schedule", "no time zone 'Berlin'"),
        ({"request": REQUEST | {"zoos": ["timm", "tim"]}}, "unknown-zoo", "Did you mean timm"),
        ({"request": REQUEST | {"dimensions": ["accuracy"], "dataset": "digits"}}, "random-weights", "weights none"),
        ({"request": REQUEST | {"zoo": "timm"}}, "malformed-request", "body.request.zoo"),
        ({"missed": "sometimes"}, "malformed-request", "'skip', 'latest' or 'all'"),
    ],
)
def test_what_could_never_run_is_refused_in_a_sentence(client, changed, slug, says):
    assert says in problem(add(client, 422, **changed), 422, slug)
    where = add(client).headers["Location"]
    assert says in problem(client.patch(where, json=changed), 422, slug)


def test_a_schedule_is_changed(client):
    first = add(client).json()
    where = f"/v1/schedules/{first['id']}"
    renamed = client.patch(where, json={"name": "weekly", "missed": "skip"}).json()
    assert (renamed["name"], renamed["missed"], renamed["next_due_at"]) == ("weekly", "skip", first["next_due_at"])
    weekly = client.patch(where, json={"cron": "30 4 * * 1", "time_zone": "UTC"}).json()
    assert datetime.fromisoformat(weekly["next_due_at"]).strftime("%a %H:%M") == "Mon 04:30"
    assert client.patch(where, json={"enabled": False}).json()["next_due_at"] is None
    assert client.patch(where, json={"enabled": True}).json()["next_due_at"] == weekly["next_due_at"]
    other = client.patch(where, json={"request": REQUEST | {"zoos": ["timm", "keras"]}}).json()
    assert other["request"]["zoos"] == ["timm", "keras"]
    assert "name cannot be null" in problem(client.patch(where, json={"name": None}), 422, "malformed-request")
    add(client)
    problem(client.patch(where, json={"name": "nightly"}), 409, "schedule-exists")
    problem(client.patch(f"/v1/schedules/{uuid.uuid4()}", json={}), 404, "not-found")


def test_a_schedule_whose_zoo_is_gone_can_still_be_disabled(client, database):
    where = add(client).headers["Location"]
    with database.write() as session:
        session.execute(update(Schedule).values(request=REQUEST | {"zoos": ["timm", "gone"]}))
    assert client.patch(where, json={"enabled": False}).json()["next_due_at"] is None


def test_enabled_again_nothing_was_missed(client, database):
    where = add(client, missed="all").headers["Location"]
    client.patch(where, json={"enabled": False})
    with database.write() as session:
        session.execute(update(Schedule).values(changed_at=datetime(2020, 1, 1, tzinfo=UTC)))
    again = client.patch(where, json={"enabled": True}).json()
    assert datetime.fromisoformat(again["next_due_at"]) > datetime.now(UTC)


@pytest.fixture
def audited(client, database, settings):
    """Run a schedule's due times as audits that have ended, with what each of them found; return the audits' ids."""

    def ran(*audits_found):
        schedule_id = uuid.UUID(add(client, cron="0 * * * *").json()["id"])
        first, ids = datetime(2026, 5, 1, 3, tzinfo=UTC), []
        for hour, found in enumerate(audits_found):
            at = first + timedelta(hours=hour)
            with database.write() as session:
                session.execute(update(Schedule).values(next_due_at=at))
                run = schedules.submit_due(session, settings, schedule_id, at)
                _store(session, run.audit_id, **found)
            ids.append(str(run.audit_id))
        return ids

    return ran


def _store(session, audit_id, *, sha256="0" * 64, verdict="inside", machine="m", listed=("x:net",), state="succeeded"):
    comparison = Comparison(
        id=new_id(),
        audit_id=audit_id,
        state="succeeded",
        verdict="interchangeable",
        a_ref="x:net",
        b_ref="y:net",
        scope={},
        result={
            "a": {"artifact": {"sha256": sha256}},
            "b": {"artifact": None},
            "latency": {"machine": {"fingerprint": machine}},
            "accuracy": None,
        },
    )
    session.add(comparison)
    session.flush()
    for dimension in ("architecture", "latency"):
        session.add(
            Finding(
                comparison_id=comparison.id,
                audit_id=audit_id,
                a_ref="x:net",
                b_ref="y:net",
                zoo_a="x",
                zoo_b="y",
                dimension=dimension,
                metric="m",
                effect=0.0,
                ci_low=0.0,
                ci_high=0.0,
                margin=0.0,
                magnitude=0.0,
                verdict=verdict,
                severity="critical",
                details={},
            )
        )
    for ref in listed:
        digest = ref.ljust(64)
        session.merge(ListingVersion(digest=digest, ref=ref, described={"classes": 10}))
        session.flush()
        session.add(AuditListing(audit_id=audit_id, digest=digest))
    session.execute(update(Audit).where(Audit.id == audit_id).values(state=state))


def test_drift_is_told_since_the_audit_before_of_the_schedule_or_any_other(client, audited):
    quiet = {}
    odd = {"sha256": "1" * 64, "verdict": "outside", "machine": "other", "listed": ("x:net", "x:new")}
    first, second, failed, third = audited(quiet, quiet, quiet | {"state": "failed"}, odd)
    none = client.get(f"/v1/audits/{second}/drift").json()
    assert (none["against"]["id"], none["drifted"]) == (first, False)
    assert {name: number for name, number in none["summary"].items() if number} == {"findings_unchanged": 2}
    found = client.get(f"/v1/audits/{third}/drift").json()
    assert found["against"]["id"] == second, "the latest one that succeeded"
    assert (found["drifted"], found["listings_kept"], found["listings"]["new"]) == (True, True, ["x:new"])
    assert found["artifacts"] == [{"ref": "x:net", "before": "0" * 64, "after": "1" * 64}]
    (moved,) = found["findings"]["moved"]
    assert (moved["dimension"], moved["why"], moved["after"]["verdict"]) == ("architecture", ["verdict"], "outside")
    (incomparable,) = found["findings"]["incomparable"]
    assert (incomparable["dimension"], incomparable["before"], incomparable["after"]) == ("latency", "m", "other")
    back = client.get(f"/v1/audits/{first}/drift", params={"against": third}).json()
    assert (back["listings"]["gone"], back["artifacts"][0]["after"]) == (["x:new"], "0" * 64)
    assert "first of its schedule" in problem(client.get(f"/v1/audits/{first}/drift"), 409, "no-audit-before")
    assert "is failed" in problem(client.get(f"/v1/audits/{failed}/drift"), 409, "not-succeeded")
    problem(client.get(f"/v1/audits/{first}/drift", params={"against": str(uuid.uuid4())}), 404, "not-found")


def test_an_audit_of_no_schedule_needs_to_be_told_what_to_compare_with(client, database):
    audit = client.post("/v1/audits", json=REQUEST).json()["id"]
    assert "is queued" in problem(client.get(f"/v1/audits/{audit}/drift"), 409, "not-succeeded")
    with database.write() as session:
        audit_rows.conclude(session, uuid.UUID(audit))
    assert "belongs to no schedule" in problem(client.get(f"/v1/audits/{audit}/drift"), 409, "no-audit-before")
    itself = client.get(f"/v1/audits/{audit}/drift", params={"against": audit}).json()
    assert (itself["drifted"], itself["listings_kept"]) == (False, False)


def test_runs_are_listed_the_latest_first_and_outlived_by_their_audits(client, audited):
    ids = audited({}, {}, {})
    (schedule,) = client.get("/v1/schedules").json()["items"]
    where = f"/v1/schedules/{schedule['id']}"
    assert schedule["last_run"]["audit_id"] == ids[-1]
    page = client.get(f"{where}/runs?limit=2").json()
    rest = client.get(f"{where}/runs", params={"cursor": page["next_cursor"]}).json()
    assert [run["audit_id"] for run in page["items"] + rest["items"]] == ids[::-1]
    assert {run["state"] for run in page["items"]} == {"succeeded"}
    assert client.delete(where).status_code == 204
    assert client.get(f"/v1/audits/{ids[0]}").status_code == 200


def test_schedules_by_name_come_page_by_page(client, database):
    names = [f"s{number}" for number in range(5)]
    for name in names[::-1]:
        add(client, name=name)
    first = client.get("/v1/schedules?limit=3").json()
    rest = client.get("/v1/schedules", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [item["name"] for item in first["items"] + rest["items"]] == names
    with database.read() as session:
        assert rows.due(session, rows.clock(session)) == []
