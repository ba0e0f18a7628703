from __future__ import annotations

import re
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine, event, insert, text, update

from app.db import jobs
from app.db.clock import now
from app.db.session import Database
from app.db.tables import Job
from app.domain.plan import JobSpec
from app.domain.states import FailureClass, JobKind
from app.main import create_app
from app.services.job_counts import JobCounts

WHO = {"worker": "w1", "device": "cpu", "places": {"cpu": "h1", "gpu": "g1"}, "lease_s": 30.0}

OPERATIONS = Path(__file__).parents[3] / "docs/operations.md"
LABELS = ("kind", "device", "readiness", "state", "outcome", "failure_class", "method", "route", "status", "le")


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def add(database, *specs):
    with database.write() as session:
        return jobs.add(session, specs)


def claim(database):
    with database.write() as session:
        return jobs.claim_next(session, **WHO)


def spec(handle, kind=JobKind.INSPECT, **values):
    return JobSpec(handle, kind, {"n": handle}, **values)


def scraped(client):
    """Return every sample of a scrape by its name and the values of its labels."""
    reply = client.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(reply.text))
    assert len({family.name for family in families}) == len(families)
    return {
        (sample.name, *(sample.labels[label] for label in LABELS if label in sample.labels)): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_queue_by_kind_and_device_with_what_waits_apart(client, database):
    add(
        database,
        spec("a"),
        spec("b"),
        spec("c", JobKind.PREDICT, device="gpu"),
        spec("d", JobKind.COMPARE, needs={"x": "a"}),
    )
    with database.write() as session:
        ago = now() - timedelta(seconds=90)
        session.execute(update(Job).where(Job.payload["n"].as_string() == "b").values(available_at=ago))
        later = now() + timedelta(seconds=90)
        session.execute(update(Job).where(Job.kind == "predict").values(available_at=later))
    found = scraped(client)
    assert found["zooaudit_queue_jobs", "inspect", "cpu", "ready"] == 2
    assert found["zooaudit_queue_jobs", "predict", "gpu", "ready"] == 0
    assert found["zooaudit_queue_jobs", "predict", "gpu", "waiting"] == 1, "it is tried again later"
    assert found["zooaudit_queue_jobs", "compare", "cpu", "waiting"] == 1, "it needs another"
    assert 90 <= found["zooaudit_queue_oldest_seconds", "inspect", "cpu"] < 150
    assert ("zooaudit_queue_oldest_seconds", "compare", "cpu") not in found
    assert found["zooaudit_jobs", "queued"] == 4
    assert found["zooaudit_database_up",] == 1


def test_a_job_is_ready_since_the_last_that_it_needs_has_ended(client, database):
    add(database, spec("a"), spec("b", JobKind.COMPARE, needs={"x": "a"}))
    with database.write() as session:
        session.execute(update(Job).values(available_at=now() - timedelta(hours=5)))
    claimed = claim(database)
    with database.write() as session:
        jobs.succeed(session, claimed)
    assert scraped(client)["zooaudit_queue_oldest_seconds", "compare", "cpu"] < 60


def test_running_and_ended_jobs_with_attempts_and_lost_leases(client, database):
    add(database, spec("a"), spec("b", JobKind.PREDICT), spec("c"), spec("d"))
    first, second, third = claim(database), claim(database), claim(database)
    with database.write() as session:
        jobs.succeed(session, first)
        jobs.fail(session, second, FailureClass.MEMORY, {"message": "too large"}, max_attempts=3)
        done = session.get_one(Job, first.id)
        done.started_at = done.finished_at - timedelta(seconds=7)
        session.execute(update(Job).where(Job.id == third.id).values(lease_until=now() - timedelta(seconds=1)))
    found = scraped(client)
    assert found["zooaudit_jobs_running", "inspect", "cpu"] == 1
    assert found["zooaudit_jobs_expired", "inspect", "cpu"] == 1
    assert found["zooaudit_jobs_ended_total", "inspect", "succeeded", ""] == 1
    assert found["zooaudit_jobs_ended_total", "predict", "failed", "memory"] == 1
    assert found["zooaudit_job_duration_seconds_bucket", "inspect", "succeeded", "5.0"] == 0
    assert found["zooaudit_job_duration_seconds_bucket", "inspect", "succeeded", "10.0"] == 1
    assert found["zooaudit_job_duration_seconds_bucket", "inspect", "succeeded", "+Inf"] == 1
    assert found["zooaudit_job_duration_seconds_sum", "inspect", "succeeded"] == pytest.approx(7, abs=0.01)
    assert found["zooaudit_job_attempts_total", "inspect"] == 2
    assert found["zooaudit_job_lease_losses_total", "inspect"] == 0
    with database.write() as session:
        jobs.recover(session, max_attempts=1, back_off_s=5.0, longest_s=15.0)
        jobs.request_cancel(session, list(session.scalars(jobs.select(Job.id).where(Job.state == "queued"))))
    found = scraped(client)
    assert found["zooaudit_job_lease_losses_total", "inspect"] == 1
    assert found["zooaudit_jobs_ended_total", "inspect", "failed", "lost"] == 1
    assert found["zooaudit_jobs_ended_total", "inspect", "cancelled", ""] == 1
    assert ("zooaudit_job_duration_seconds_sum", "inspect", "cancelled") not in found
    states = {
        state: found["zooaudit_jobs", state] for state in ("queued", "running", "succeeded", "failed", "cancelled")
    }
    assert states == {"queued": 0, "running": 0, "succeeded": 1, "failed": 2, "cancelled": 1}


def test_what_ended_long_ago_is_counted_once_and_read_once(database):
    add(database, *(spec(str(number)) for number in range(4)))
    with database.write() as session:
        for _ in range(3):
            jobs.succeed(session, jobs.claim_next(session, **WHO))
    counts = JobCounts(database)
    assert counts.read().tally.ended == {("inspect", "succeeded", None): 3}
    for hours in (3, 2):
        with database.write() as session:
            session.execute(
                update(Job).where(Job.state == "succeeded").values(finished_at=now() - timedelta(hours=hours))
            )
        counts = JobCounts(database)
        assert counts.read().tally.ended == {("inspect", "succeeded", None): 3}
    with database.write() as session:
        # Nobody changes what has ended; a second look at it would show here.
        session.execute(update(Job).where(Job.state == "succeeded").values(kind="predict"))
        jobs.succeed(session, jobs.claim_next(session, **WHO))
    tally = counts.read().tally
    assert tally.ended == {("inspect", "succeeded", None): 4}
    assert tally.attempts == {"inspect": 4}


def test_every_process_counts_the_same_jobs(settings, database):
    add(database, spec("a"))
    claimed = claim(database)
    with database.write() as session:
        jobs.succeed(session, claimed)
    with TestClient(create_app(settings)) as one, TestClient(create_app(settings)) as two:
        one.get("/livez")
        both = [scraped(each) for each in (one, two)]
    ended, answered = "zooaudit_jobs_ended_total", "zooaudit_http_request_duration_seconds_count"
    assert [each[ended, "inspect", "succeeded", ""] for each in both] == [1, 1]
    assert [each.get((answered, "GET", "/livez", "200")) for each in both] == [1, None], "requests are a process's own"


def test_requests_are_counted_by_route_and_never_by_path(client):
    stranger = str(uuid.uuid4())
    client.get(f"/v1/comparisons/{stranger}")
    client.get(f"/{stranger}")
    client.request("BREW", "/v1/zoos")
    client.post("/v1/comparisons", content=b"{")
    found = scraped(client)
    name = "zooaudit_http_request_duration_seconds_count"
    counted = {
        labels: value for (what, *labels_), value in found.items() if what == name for labels in [tuple(labels_)]
    }
    assert counted == {
        ("GET", "/v1/comparisons/{comparison_id}", "404"): 1,
        ("GET", "none", "404"): 1,
        ("other", "/v1/zoos", "405"): 1,
        ("POST", "/v1/comparisons", "422"): 1,
    }
    assert stranger not in client.get("/metrics").text


def test_without_the_database_the_rest_is_told(client, database):
    with database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE jobs RENAME TO gone"))
    found = scraped(client)
    assert found["zooaudit_database_up",] == 0
    assert not any(name.startswith("zooaudit_job") for name, *_ in found)


def test_no_query_of_a_scrape_reads_all_jobs(postgres_url):
    """Plans on a table of the size where they matter: 20,000 ended jobs, 200 queued."""
    database = Database(postgres_url)
    common = {"priority": 0, "device": "cpu", "payload": {}}
    yesterday = {"kind": "inspect", "state": "succeeded", "finished_at": now() - timedelta(days=1)}
    with database.write() as session:
        session.execute(insert(Job), [common | yesterday] * 20_000)
        session.execute(insert(Job), [common | {"kind": "predict", "state": "queued"}] * 200)
    with create_engine(postgres_url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE jobs"))
    counts = JobCounts(database)
    assert sum(counts.read().tally.ended.values()) == 20_000
    asked = []
    event.listen(database.readers, "before_cursor_execute", listener := lambda *given: asked.append(given[2:4]))
    counts.read()
    event.remove(database.readers, "before_cursor_execute", listener)
    of_jobs = [(statement, values) for statement, values in asked if "FROM jobs" in statement]
    with database.engine.connect() as connection:
        plans = [connection.exec_driver_sql(f"EXPLAIN {one}", values).scalars().all() for one, values in of_jobs]
    database.dispose()
    assert len(plans) == 5
    assert not [line for plan in plans for line in plan if "Seq Scan on jobs" in line]


def test_the_page_names_every_metric_and_no_other(client):
    page = OPERATIONS.read_text()
    text_ = client.get("/metrics").text
    told = set(re.findall(r"^# TYPE (zooaudit_\w+)", text_, flags=re.MULTILINE))
    told = {name for name in told if not name.endswith("_created")}
    assert set(re.findall(r"^\| `(zooaudit_\w+)`", page, flags=re.MULTILINE)) == told
    scrape, rules = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL))
    assert scrape["scrape_configs"][0]["job_name"] == "zooaudit"
    alerts = rules["groups"][0]["rules"]
    named = {name for alert in alerts for name in re.findall(r"zooaudit_\w+", alert["expr"])}
    # A histogram has other samples than its family.
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in named} <= told
    assert [alert["alert"] for alert in alerts] == re.findall(r"^\| `(ZooAudit\w+)`", page, flags=re.MULTILINE)
