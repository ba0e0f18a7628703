"""One comparison from request to answer: embedded, with real Celery on real Redis and Postgres, and under kill -9."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.db.session import Database
from app.db.tables import Comparison, Finding, Job, Measurement
from app.domain.plan import SHARD_ITEMS
from app.main import create_app
from app.settings import Settings

ROOT = Path(__file__).parents[2]
PLANTED = ROOT / "tests" / "workers" / "planted"
WAIT_S = 90.0

pytestmark = pytest.mark.slow


@pytest.fixture
def refs(network, tmp_path):
    return network(tmp_path / "a.onnx", 4), network(tmp_path / "b.onnx", 8)


@contextlib.contextmanager
def process(settings, *command):
    """Run a worker process as an operator would, in a group of its own; stop it softly."""
    environment = {
        **os.environ,
        "ZOOAUDIT_DATA_DIR": str(settings.data_dir),
        "ZOOAUDIT_DATABASE_URL": settings.url,
        "ZOOAUDIT_LEASE_S": str(settings.lease_s),
        "ZOOAUDIT_LOCAL_ZOOS": os.pathsep.join(map(str, settings.local_zoos)),
    }
    if settings.broker_url:
        environment["ZOOAUDIT_BROKER_URL"] = settings.broker_url
    started = subprocess.Popen([sys.executable, "-m", *command], env=environment, cwd=ROOT, process_group=0)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(timeout=30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def celery_worker(settings):
    options = ["--queues", "cpu", "--concurrency", "1", "--without-gossip", "--without-mingle", "--loglevel", "warning"]
    return process(settings, "celery", "--app", "workers.celery_app", "worker", *options)


def wait_for(condition, what):
    deadline = time.monotonic() + WAIT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not in time"
        time.sleep(0.05)
    return value


def ended(client, address):
    body = client.get(address).json()
    return body if body["state"] in {"succeeded", "failed", "cancelled"} else None


@pytest.fixture
def production(tmp_path, postgres_url, redis_url):
    return Settings(
        data_dir=tmp_path / "data",
        database_url=postgres_url,
        broker_url=redis_url,
        lease_s=2.0,
        local_zoos=(PLANTED,),
    )


def test_embedded(tmp_path, refs):
    settings = Settings(data_dir=tmp_path / "data", lease_s=2.0)
    with TestClient(create_app(settings)) as client:
        asked = {"a": refs[0], "b": refs[1], "dimensions": ["architecture", "latency"], "latency_budget_s": 3}
        reply = client.post("/v1/comparisons", json=asked)
        assert reply.status_code == 202
        address = reply.headers["Location"]
        with process(settings, "workers.local", "--until", reply.json()["id"]) as worker:
            assert worker.wait(timeout=WAIT_S) == 0
        answer = client.get(address).json()
    assert answer["state"] == "succeeded"
    assert answer["verdict"] == "not_interchangeable"
    assert answer["architecture"]["verdict"] == "different"
    assert [answer["architecture"][side]["parameters"] for side in "ab"] == [4 * 27 + 40, 8 * 27 + 80]
    (point,) = answer["latency"]["operating_points"]
    assert point["runtime"] == "onnxruntime"
    assert point["a"]["samples"] > 0
    assert {finding["dimension"] for finding in answer["findings"]} == {"architecture", "latency"}


def test_through_celery_redis_and_postgres(production, refs):
    with TestClient(create_app(production)) as client, celery_worker(production):
        reply = client.post("/v1/comparisons", json={"a": refs[0], "b": refs[1], "dimensions": ["architecture"]})
        assert reply.status_code == 202
        answer = wait_for(lambda: ended(client, reply.headers["Location"]), "the comparison")
    assert answer["state"] == "succeeded"
    assert answer["architecture"]["verdict"] == "different"


def test_a_large_data_set_is_divided_over_celery_workers(production, network, tmp_path):
    items = 2 * SHARD_ITEMS + 100
    random = np.random.default_rng(1)
    images, labels = random.integers(0, 256, (items, 16, 16, 3), dtype=np.uint8), random.integers(0, 10, items)
    np.savez(tmp_path / "many.npz", images=images, labels=labels)
    (tmp_path / "own").mkdir()
    lines = []
    for name, channels in (("small", 4), ("large", 8)):
        network(tmp_path / "own" / f"{name}.onnx", channels)
        lines += [f"[models.{name}]", 'framework = "onnx"', f'weights = {{ v1 = "{name}.onnx" }}', "classes = 10"]
        lines += [f"[models.{name}.input]", "height = 16", "width = 16"]
    (tmp_path / "own" / "zoo.toml").write_text("\n".join(lines))
    production = production.model_copy(update={"local_zoos": (tmp_path / "own",)})
    database = Database(production.url)
    with TestClient(create_app(production)) as client, celery_worker(production), celery_worker(production):
        data = {"name": "many", "format": "npz", "path": str(tmp_path / "many.npz")}
        assert client.post("/v1/datasets", json=data).status_code == 201
        asked = {"a": "own:small", "b": "own:large", "dimensions": ["accuracy"], "dataset": "many"}
        reply = client.post("/v1/comparisons", json=asked)
        assert reply.status_code == 202, reply.text
        answer = wait_for(lambda: ended(client, reply.headers["Location"]), "the comparison")
    assert (answer["state"], answer["error"]) == ("succeeded", None)
    assert answer["accuracy"]["items"] == sum(answer["accuracy"]["ledger"].values()) == items
    with database.read() as session:
        measured = Counter(session.scalars(select(Measurement.kind)))
        attempts = Counter((job.kind, job.attempt) for job in session.scalars(select(Job)))
    database.dispose()
    assert measured == {"inspect": 2, "shard": 6, "predict": 2}
    assert (attempts["shard", 1], attempts["predict", 2]) == (6, 2)


def test_a_worker_killed_in_the_middle_still_gives_one_result(production):
    database = Database(production.url)
    with TestClient(create_app(production)) as client:
        asked = {"a": "planted:slow@none", "b": "planted:tiny@none", "dimensions": ["architecture"]}
        reply = client.post("/v1/comparisons", json=asked)
        assert reply.status_code == 202, reply.text
        with celery_worker(production) as first:
            family = wait_for(lambda: in_the_middle(database, first.pid, "slow"), "the slow model")
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
        _, left = psutil.wait_procs(family, timeout=10)
        assert [item for item in left if item.status() != psutil.STATUS_ZOMBIE] == []
        with process(production, "workers.reaper"), celery_worker(production):
            answer = wait_for(lambda: ended(client, reply.headers["Location"]), "the comparison")
    assert answer["state"] == "succeeded"
    assert answer["architecture"]["verdict"] == "identical"
    with database.read() as session:
        measured = Counter(session.scalars(select(Measurement.subject)))
        found = Counter(session.scalars(select(Finding.metric)))
        attempts = {job.work_key: job.attempt for job in session.scalars(select(Job))}
        assert session.scalar(select(Comparison.state)) == "succeeded"
    database.dispose()
    assert measured == {"planted:slow@none": 1, "planted:tiny@none": 1}
    assert found == {"structure": 1, "parameters": 1, "flops": 1}
    assert attempts["inspect planted:slow@none"] == 2
    assert list((production.data_dir / "scratch").iterdir()) == []


def in_the_middle(database, pid, model):
    """Return the worker's processes once its engine is at a model, else None."""
    with database.read() as session:
        running = session.scalar(select(Job.id).where(Job.state == "running", Job.work_key.contains(model)))
    family = psutil.Process(pid).children(recursive=True)
    templates = {item.pid for item in family if "workers.engine.template" in " ".join(item.cmdline())}
    engines = [item for item in family if item.ppid() in templates]
    return family if running and engines else None


def test_a_worker_told_to_quit_gives_its_job_back(production):
    database = Database(production.url)
    with TestClient(create_app(production)) as client, celery_worker(production) as worker:
        asked = {"a": "planted:hangs@none", "b": "planted:tiny@none", "dimensions": ["architecture"]}
        assert client.post("/v1/comparisons", json=asked).status_code == 202
        family = wait_for(lambda: in_the_middle(database, worker.pid, "hangs"), "the hanging model")
        worker.send_signal(signal.SIGQUIT)
        worker.wait(timeout=WAIT_S)
    with database.read() as session:
        job = session.scalars(select(Job).where(Job.work_key == "inspect planted:hangs@none")).one()
    database.dispose()
    assert (job.state, job.lease_until) == ("queued", None)
    assert [item for item in family if item.is_running() and item.status() != psutil.STATUS_ZOMBIE] == []
