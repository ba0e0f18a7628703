"""What is deleted when it has been kept long enough, and what never is."""

from __future__ import annotations

import os
import threading
import uuid
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from app.db import outbox
from app.db.clock import now
from app.db.idempotency import claim
from app.db.jobs import add
from app.db.tables import Comparison, Finding, IdempotencyKey, Job, JobNeed, Measurement
from app.db.webhook_tables import Webhook, WebhookDelivery, WebhookEvent
from app.domain.ids import new_id
from app.domain.plan import JobSpec
from app.domain.states import JobKind
from app.domain.webhooks import new_secret
from app.main import create_app
from workers.files import Attempt, FileStore
from workers.keeper import Keeper

DAYS = timedelta(days=1)


@pytest.fixture
def kept(settings):
    return settings.model_copy(update={"keep_raw_days": 30.0})


@pytest.fixture
def store(kept):
    return FileStore(kept.data_dir)


@pytest.fixture
def measure(database, store, tmp_path):
    """Store a measurement with a file, made and last used so many days ago; return its id and the file."""

    def made(text, *, days, used=None, kind=JobKind.PREDICT):
        source = tmp_path / "source"
        source.write_text(text)
        sha256 = store.put(source, Attempt(uuid.uuid4(), 1))
        at = now() - days * DAYS
        os.utime(store.path(sha256), (at.timestamp(), at.timestamp()))
        measurement_id, spec = new_id(), JobSpec("j", kind, {"listing": {"ref": "x:a"}})
        with database.write() as session:
            job_id = add(session, [spec])["j"]
            row = Measurement(
                id=measurement_id,
                kind=kind,
                key="0" * 64,
                subject="x:a",
                protocol={},
                environment={},
                values={},
                files={"predictions": sha256},
                job_id=job_id,
                created_at=at,
                files_used_at=None if used is None else now() - used * DAYS,
            )
            session.add(row)
            session.flush()
            session.execute(
                update(Job).where(Job.id == job_id).values(measurement_id=measurement_id, state="succeeded")
            )
        return measurement_id, store.path(sha256)

    return made


def test_raw_files_go_and_everything_that_was_found_stays(database, kept, store, measure):
    old, old_file = measure("old", days=31)
    _, used_file = measure("used", days=90, used=1)
    _, new_file = measure("new", days=29)
    _, imported_file = measure("imported", days=90, kind=JobKind.IMPORT)
    Keeper(kept, database).look()
    assert [path.exists() for path in (old_file, used_file, new_file, imported_file)] == [False, True, True, True]
    with database.read() as session:
        marked = session.scalars(select(Measurement.id).where(Measurement.files_deleted_at.is_not(None)))
        assert list(marked) == [old]
        assert session.scalar(select(func.count()).select_from(Measurement)) == 4
    assert list((store.root / "partial").glob("*")) == []


def test_a_file_that_a_younger_measurement_has_too_stays_for_that_one(database, kept, measure):
    _, file = measure("same", days=90)
    _, again = measure("same", days=2)
    assert file == again
    keeper = Keeper(kept, database)
    keeper.look()
    assert file.exists()
    with database.write() as session:
        session.execute(update(Measurement).values(created_at=now() - 31 * DAYS))
    os.utime(file, (0, 0))
    keeper.look()
    assert not file.exists()


def test_without_a_setting_raw_files_are_kept_for_ever(database, settings, measure):
    _, file = measure("old", days=4000)
    Keeper(settings, database).look()
    assert file.exists()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)  # on SQLite one transaction writes at a time
def test_a_measurement_that_is_being_reused_is_passed_over(database, kept, measure):
    measurement_id, file = measure("old", days=90)
    with database.write() as session:
        session.scalar(select(Measurement).where(Measurement.id == measurement_id).with_for_update(read=True))
        done = threading.Thread(target=Keeper(kept, database).look)
        done.start()
        done.join(timeout=20)
        assert not done.is_alive(), "it does not wait"
        assert file.exists()


def test_the_api_says_plainly_that_items_are_gone_and_keeps_the_answer(database, kept, measure):
    comparison_id = new_id()
    sides = [measure(side, days=90) for side in "ab"]
    predictions = [file.name for _, file in sides]
    scope = {"dimensions": ["accuracy"], "dataset": None, "policy": {"name": "default"}, "errors": {}}
    result = {side: {"ref": f"x:{side}", "predictions": predictions[n]} for n, side in enumerate("ab")}
    with database.write() as session:
        row = Comparison(id=comparison_id, state="succeeded", a_ref="x:a", b_ref="x:b", scope=scope)
        row.result = result | {"accuracy": {"verdict": "equivalent"}}
        session.add(row)
        session.flush()
        spec = JobSpec("c", JobKind.COMPARE, {"comparison_id": str(comparison_id)})
        job_id = add(session, [spec], comparison_id=comparison_id)["c"]
        for role, (measurement_id, _) in zip(("a.predict", "b.predict"), sides, strict=True):
            needed = session.scalar(select(Job.id).where(Job.measurement_id == measurement_id))
            session.add(JobNeed(job_id=job_id, role=role, needs_id=needed))
    with TestClient(create_app(kept)) as client:
        address = f"/v1/comparisons/{comparison_id}/items"
        assert client.get(address).status_code == 404, "no data in these files"
        assert 'zooaudit_retention_overdue{what="raw_files"} 2.0' in client.get("/metrics").text
        Keeper(kept, database).look()
        gone = client.get(address)
        assert (gone.status_code, gone.json()["type"]) == (410, "urn:zooaudit:raw-files-deleted")
        assert "its results stay" in gone.json()["detail"]
        assert 'zooaudit_retention_overdue{what="raw_files"} 0.0' in client.get("/metrics").text
    with database.read() as session:
        assert session.get_one(Comparison, comparison_id).result["accuracy"]["verdict"] == "equivalent"
        assert session.scalar(select(func.count()).select_from(Finding)) == 0


def test_keys_and_events_go_in_batches_and_webhooks_stay(database, kept, monkeypatch):
    monkeypatch.setattr("workers.keeper._BATCH", 3)
    with database.write() as session:
        for number in range(8):
            claim(session, client="c", key=str(number), request_hash="h", resource_id=new_id())
        webhook = Webhook(url="https://h.example/", events=[], description="", enabled=True, secret=new_secret())
        session.add(webhook)
        session.flush()
        for _ in range(8):
            outbox.test(session, webhook)
        first = session.scalars(select(WebhookEvent.id).order_by(WebhookEvent.id).limit(7)).all()
        session.execute(update(WebhookEvent).where(WebhookEvent.id.in_(first)).values(created_at=now() - 31 * DAYS))
        session.execute(update(IdempotencyKey).where(IdempotencyKey.key != "7").values(created_at=now() - 8 * DAYS))
    Keeper(kept, database).look()
    with database.read() as session:
        assert list(session.scalars(select(IdempotencyKey.key))) == ["7"]
        counted = [
            session.scalar(select(func.count()).select_from(t)) for t in (WebhookEvent, WebhookDelivery, Webhook)
        ]
    assert counted == [1, 1, 1]
