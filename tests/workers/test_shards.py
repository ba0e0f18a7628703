import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from app.db import datasets, jobs
from app.db.tables import Dataset, Job, JobNeed, Measurement
from app.domain.plan import SHARD_ITEMS, JobSpec
from app.domain.states import FINAL, JobKind
from workers.engine.accuracy import store
from workers.engine.accuracy.datasets import open_dataset
from workers.engine.accuracy.inference import Inference
from workers.engine.accuracy.runners import Execution
from workers.engine.contracts.contract import Contract
from workers.execution import execution
from workers.files import FileStore

ITEMS = 2 * SHARD_ITEMS + 100
DEADLINE_S = 120.0

one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def pictures(tmp_path, database):
    """Store a data set of three shards; return its specification."""
    random = np.random.default_rng(5)
    images = random.integers(0, 256, (ITEMS, 8, 8), dtype=np.uint8)
    np.savez_compressed(tmp_path / "many.npz", images=images, labels=random.integers(0, 10, ITEMS))
    row = Dataset(name="many", format="npz", path=str(tmp_path / "many.npz"), label_space="digits")
    with database.write() as session:
        datasets.add(session, row)
        return row.spec()


@pytest.fixture
def predict_jobs(add, subject, pictures):
    """Store the jobs that inspect a planted model and predict with it; return their ids."""

    def stored(name):
        payload = {"listing": subject(name), "dataset": pictures, "runtime": "onnxruntime", "device": "cpu"}
        inspect = JobSpec("inspect", JobKind.INSPECT, {"listing": subject(name)})
        return add(inspect, JobSpec("predict", JobKind.PREDICT, payload, needs={"inspect": "inspect"}))

    return stored


def run(supervisor, job_id):
    claim = supervisor.claim(job_id)
    assert claim is not None
    supervisor.run(claim)


def shards_of(database, job_id):
    with database.read() as session:
        needs = select(JobNeed.needs_id).where(JobNeed.job_id == job_id)
        order = Job.payload["start"].as_integer()
        return list(session.scalars(select(Job).where(Job.kind == JobKind.SHARD, Job.id.in_(needs)).order_by(order)))


def measured_by(database, job_id):
    with database.read() as session:
        return session.get_one(Measurement, session.get_one(Job, job_id).measurement_id)


def at_once(database, data_dir, inspect, pictures):
    """What one run over all items answers, by the same file."""
    inspected = measured_by(database, inspect)
    model = FileStore(data_dir).path(inspected.files["model"])
    contract = Contract.from_json(inspected.values["listing"]["contract"])
    how = execution({"runtime": "onnxruntime", "device": "cpu"}, inspected.values["input_shape"])
    dataset = open_dataset(pictures)
    return Inference(
        model, contract, dataset, Execution(**how), progress=lambda *_: None, label_space="digits"
    ).predict()


def check_same(database, data_dir, job_id, whole):
    row = measured_by(database, job_id)
    merged = store.read(FileStore(data_dir).path(row.files["predictions"]))
    for name in ("labels", "classes", "scores", "log_sum", "log_right"):
        assert getattr(merged, name).tobytes() == getattr(whole, name).tobytes(), name
    assert merged.items_digest == whole.items_digest
    assert merged.provenance == whole.provenance
    assert row.values["self_noise"] == whole.provenance["self_noise"]


def test_a_large_data_set_is_divided_and_merged_as_if_by_one(  # noqa: PLR0917 - fixtures
    supervisor, database, predict_jobs, pictures, job, quick
):
    inspect, predict = predict_jobs("tiny")
    run(supervisor, inspect)
    run(supervisor, predict)
    shards = shards_of(database, predict)
    assert job(predict).state == "queued"
    assert [(shard.payload["start"], shard.payload["stop"]) for shard in shards] == [
        (0, SHARD_ITEMS),
        (SHARD_ITEMS, 2 * SHARD_ITEMS),
        (2 * SHARD_ITEMS, ITEMS),
    ]
    assert supervisor.claim(predict) is None
    for shard in reversed(shards):
        run(supervisor, shard.id)
    run(supervisor, predict)
    assert (job(predict).state, job(predict).error) == ("succeeded", None)
    whole = at_once(database, quick.data_dir, inspect, pictures)
    check_same(database, quick.data_dir, predict, whole)
    row = measured_by(database, predict)
    assert row.values["dataset_digest"] == open_dataset(pictures).digest()
    assert row.values["self_noise"]["items"] == 512
    assert list((quick.data_dir / "scratch").iterdir()) == []


@one_database
def test_shards_that_are_there_are_not_run_again(supervisor, database, predict_jobs, job):
    inspect, predict = predict_jobs("tiny")
    run(supervisor, inspect)
    run(supervisor, predict)
    first, *others = shards_of(database, predict)
    run(supervisor, first.id)
    with database.write() as session:
        jobs.request_cancel(session, [predict, *(shard.id for shard in others)])
    assert job(predict).state == "cancelled"

    # Asked for again, by a job of its own: what was measured stays measured.
    again, anew = predict_jobs("tiny")
    run(supervisor, again)
    run(supervisor, anew)
    shards = shards_of(database, anew)
    assert not {shard.id for shard in shards} & {first.id, *(shard.id for shard in others)}
    for shard in shards:
        run(supervisor, shard.id)
    run(supervisor, anew)
    assert job(anew).state == "succeeded"
    assert [job(shard.id).measurement_id == job(first.id).measurement_id for shard in shards] == [True, False, False]


@one_database
def test_the_reason_of_a_failed_shard_is_told(supervisor, database, predict_jobs, job):
    inspect, predict = predict_jobs("tiny")
    run(supervisor, inspect)
    run(supervisor, predict)
    with database.read() as session:
        path = Path(session.scalars(select(Dataset.path).where(Dataset.name == "many")).one())
    path.rename(path.with_suffix(".gone"))
    shards = shards_of(database, predict)
    for shard in shards:
        run(supervisor, shard.id)
    run(supervisor, predict)
    assert job(predict).state == "failed"
    assert job(predict).error == job(shards[0].id).error
    assert "many.npz is not a file" in job(predict).error["message"]


def worker(settings):
    """Start a real worker on these settings, as an operator does."""
    values = {
        "ZOOAUDIT_DATA_DIR": settings.data_dir,
        "ZOOAUDIT_CACHE_DIR": settings.cache_dir,
        "ZOOAUDIT_DATABASE_URL": settings.database_url,
        "ZOOAUDIT_LEASE_S": settings.lease_s,
    }
    environ = os.environ | {name: str(value) for name, value in values.items()}
    return subprocess.Popen([sys.executable, "-m", "workers.local", "--slots", "1"], env=environ)


def wait_for(condition):
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return value


@pytest.mark.slow
def test_workers_share_a_data_set_and_one_of_them_is_killed(database, predict_jobs, pictures, job, quick):
    inspect, predict = predict_jobs("heavy")
    started = {process.pid: process for process in (worker(quick), worker(quick))}

    def half_done():
        """A shard at work, once another has ended."""
        shards = shards_of(database, predict)
        running = [shard for shard in shards if shard.state == "running" and shard.progress]
        return running if running and any(shard.state == "succeeded" for shard in shards) else None

    try:
        victim = wait_for(half_done)[0]
        started[int(victim.worker.split()[1])].send_signal(signal.SIGKILL)
        wait_for(lambda: job(predict).state in FINAL)
    finally:
        for process in started.values():
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert (job(predict).state, job(predict).error) == ("succeeded", None)
    assert job(victim.id).attempt == 2
    with database.read() as session:
        kinds = session.scalars(select(Measurement.kind)).all()
    assert sorted(kinds) == ["inspect", "predict", "shard", "shard", "shard"]
    check_same(database, quick.data_dir, predict, at_once(database, quick.data_dir, inspect, pictures))
