import hashlib
import socket
import threading
import time

import psutil
import pytest
from sqlalchemy import func, select, update

from app.db import datasets, jobs
from app.db.session import Database
from app.db.tables import Artifact, Comparison, Finding, Job, LatencyRun, Measurement
from app.domain import plan
from app.domain.ids import new_id
from app.domain.plan import JobSpec
from app.domain.policies import POLICIES, Dimension
from app.domain.states import JobKind
from workers.ringing import ring_released

DEADLINE_S = 60.0

one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what happens in processes, whichever database hears of it."""


def wait_for(condition):
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return value


def engine_of(engines):
    """The engines that the template has forked, with all that they started."""
    template = engines.template.pid
    return psutil.Process(template).children(recursive=True) if template else []


def with_its_children(engines):
    """The hanging engine and what it has started, once it has."""
    found = engine_of(engines)
    return found if any(item.name() == "sleep" for item in found) else None


def alive(process):
    """Whether it still runs; an orphan that nobody has reaped yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run(supervisor, job_id):
    claim = supervisor.claim(job_id)
    assert claim is not None
    supervisor.run(claim)


def count(database, table):
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table))


def test_an_inspected_listing_leaves_artifact_measurement_and_files(supervisor, inspect_job, job, database, quick):
    job_id = inspect_job("tiny")
    run(supervisor, job_id)
    row = job(job_id)
    assert (row.state, row.error) == ("succeeded", None)
    with database.read() as session:
        measured = session.get_one(Measurement, row.measurement_id)
        artifact = session.get_one(Artifact, measured.artifact_sha256)
    assert measured.values["parameters"] == 4 * 9 + 4 + 144 * 10 + 10
    assert measured.values["input_shape"] == [1, 1, 8, 8]
    assert measured.values["output_shape"] == [1, 10]
    assert measured.environment["versions"]["torch"]
    assert artifact.format == "safetensors"
    for sha256 in measured.files.values():
        data = (quick.data_dir / "files" / sha256[:2] / sha256).read_bytes()
        assert hashlib.sha256(data).hexdigest() == sha256
    assert set(measured.files) == {"model", "graph"}
    assert list((quick.data_dir / "scratch").iterdir()) == []


@one_database
@pytest.mark.parametrize(
    ("model", "failure_class", "said"),
    [
        ("aborts", "subject", "planted:aborts@none killed the measuring process with SIGABRT"),
        ("raises", "subject", "ZeroDivisionError: the builder divides by nothing"),
        ("leaves", "subject", "exit status 7"),
        ("eats", "memory", "of memory where 1536 MiB are allowed"),
        ("garbles", "subject", "wrote into the engine's replies"),
    ],
)
def test_a_fault_fails_its_job_alone(supervisor, inspect_job, job, engines, model, failure_class, said):  # noqa: PLR0917
    bad, good = inspect_job(model), inspect_job("tiny")
    run(supervisor, bad)
    template = engines.template.pid
    run(supervisor, good)
    row = job(bad)
    assert (row.state, row.failure_class) == ("failed", failure_class)
    assert said in row.error["message"]
    assert job(good).state == "succeeded"
    assert engines.template.pid == template
    assert engine_of(engines) == []


@one_database
def test_a_hanging_model_is_stopped_with_all_it_started(supervisor_with, engines, inspect_job, job):
    job_id = inspect_job("hangs")
    # Time enough to come to hang on a busy machine.
    supervisor = supervisor_with(engine_timeout_s=5.0)
    claim = supervisor.claim(job_id)
    running = threading.Thread(target=supervisor.run, args=(claim,))
    running.start()
    started = wait_for(lambda: with_its_children(engines))
    running.join(DEADLINE_S)
    row = job(job_id)
    assert (row.state, row.failure_class) == ("failed", "timeout")
    assert "was not done after 5 s" in row.error["message"]
    assert [item for item in started if alive(item)] == []


@one_database
def test_a_model_has_no_network(supervisor, inspect_job, job, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        # The template has been started before with another environment, so one of its own runs this.
        from workers.engines import TemplateEngines

        monkeypatch.setenv("PLANTED_PORT", str(server.getsockname()[1]))
        supervisor._engines = TemplateEngines(light=True)
        job_id = inspect_job("calls_home")
        run(supervisor, job_id)
    row = job(job_id)
    assert row.state == "failed"
    assert "PermissionError" in row.error["message"]


def test_a_lost_lease_stores_nothing_and_kills_the_group(supervisor, inspect_job, job, database, engines):
    job_id = inspect_job("hangs")
    claim = supervisor.claim(job_id)
    running = threading.Thread(target=supervisor.run, args=(claim,))
    running.start()
    started = wait_for(lambda: with_its_children(engines))
    with database.write() as session:
        # As when this worker had been silent for too long: the row says that another attempt has it.
        session.execute(update(Job).where(Job.id == job_id).values(attempt=Job.attempt + 1, worker="another"))
    running.join(DEADLINE_S)
    assert not running.is_alive()
    row = job(job_id)
    assert (row.state, row.attempt, row.worker, row.error) == ("running", 2, "another", None)
    assert count(database, Measurement) == 0
    assert [item for item in started if alive(item)] == []


def test_cancelling_ends_the_job_and_its_processes(supervisor, inspect_job, job, database, engines):
    job_id = inspect_job("hangs")
    claim = supervisor.claim(job_id)
    running = threading.Thread(target=supervisor.run, args=(claim,))
    running.start()
    wait_for(lambda: engine_of(engines))
    with database.write() as session:
        jobs.request_cancel(session, [job_id])
    running.join(DEADLINE_S)
    assert not running.is_alive()
    assert job(job_id).state == "cancelled"
    assert engine_of(engines) == []


def test_stopping_the_worker_gives_the_job_back(supervisor, inspect_job, job, engines, stop):
    job_id = inspect_job("hangs")
    claim = supervisor.claim(job_id)
    running = threading.Thread(target=supervisor.run, args=(claim,))
    running.start()
    wait_for(lambda: engine_of(engines))
    stop.ask(0.0)
    running.join(DEADLINE_S)
    assert not running.is_alive()
    assert (job(job_id).state, job(job_id).lease_until) == ("queued", None)
    assert engine_of(engines) == []


@one_database
def test_heartbeats_keep_a_job_longer_than_its_lease(supervisor_with, database, inspect_job, job):
    job_id = inspect_job("slow")
    supervisor = supervisor_with(lease_s=1.5)
    claim = supervisor.claim(job_id)
    running = threading.Thread(target=supervisor.run, args=(claim,))
    running.start()
    while running.is_alive():
        with database.write() as session:
            assert jobs.recover(session, max_attempts=3, back_off_s=1, longest_s=1) == ([], [])
        time.sleep(0.1)
    row = job(job_id)
    assert (row.state, row.attempt) == ("succeeded", 1)
    assert row.progress["message"].endswith("planted:slow@none")


def test_a_listing_that_cannot_change_is_measured_once(supervisor, add, job, database):
    subject = {
        "ref": "onnx:light_squeezenet",
        "zoo": "onnx",
        "name": "light_squeezenet",
        "weights": None,
        "folder": None,
    }
    first, second = add(*(JobSpec(f"inspect {n}", JobKind.INSPECT, {"listing": subject}) for n in range(2)))
    run(supervisor, first)
    run(supervisor, second)
    assert job(first).state == job(second).state == "succeeded"
    assert job(second).measurement_id == job(first).measurement_id
    assert count(database, Measurement) == 1


@one_database
def test_a_changed_folder_is_measured_again(supervisor, inspect_job, job):
    first, second = inspect_job("tiny"), inspect_job("tiny")
    run(supervisor, first)
    run(supervisor, second)
    assert None is not job(first).measurement_id != job(second).measurement_id is not None


@one_database
def test_a_dead_template_is_started_again(supervisor, inspect_job, job, engines):
    first, second = inspect_job("tiny"), inspect_job("wide")
    run(supervisor, first)
    before = engines.template.pid
    psutil.Process(before).kill()
    run(supervisor, second)
    assert job(second).state == "succeeded"
    assert engines.template.pid != before


@one_database
def test_what_a_failed_need_says_is_told(supervisor, add, subject, job):
    inspect = JobSpec("inspect", JobKind.INSPECT, {"listing": subject("raises")})
    digits = {"name": "digits", "format": "digits", "path": None, "label_space": "digits"}
    payload = {"listing": subject("raises"), "dataset": digits, "runtime": "onnxruntime", "device": "cpu"}
    predict = JobSpec("predict", JobKind.PREDICT, payload, needs={"inspect": "inspect"})
    ids = add(inspect, predict)
    for job_id in ids:
        run(supervisor, job_id)
    assert job(ids[1]).error == job(ids[0]).error


def comparison_of(database, subjects, dimensions, dataset=None, **scope_fields):
    """Store a comparison of two planted models with its jobs; return its id and the jobs' ids in order."""
    scope = plan.Scope(
        tuple(map(Dimension, dimensions)), POLICIES["default"], dataset, latency_budget_s=2.0, **scope_fields
    )
    a, b = map(plan.Subject.from_json, subjects)
    comparison_id = new_id()
    with database.write() as session:
        session.add(
            Comparison(id=comparison_id, state="queued", a_ref=a.ref, b_ref=b.ref, scope=scope.to_json(), audit_id=None)
        )
        session.flush()
        specs = [*plan.measurements([a, b], scope, share=str(comparison_id))]
        specs.append(plan.comparison(str(comparison_id), a, b, scope, share=str(comparison_id)))
        ids = jobs.add(session, specs, comparison_id=comparison_id)
    return comparison_id, list(ids.values())


def test_a_comparison_keeps_what_could_be_measured(supervisor, subject, database):
    digits = {"name": "digits", "format": "digits", "path": None, "label_space": "digits"}
    subjects = [subject("tiny"), subject("undescribed")]
    comparison_id, ids = comparison_of(database, subjects, ["architecture", "accuracy"], digits)
    for job_id in ids:
        run(supervisor, job_id)
    with database.read() as session:
        row = session.get_one(Comparison, comparison_id)
        found = session.scalars(select(Finding).where(Finding.comparison_id == comparison_id)).all()
    assert row.state == "succeeded"
    assert row.result["architecture"]["verdict"] == "identical"
    assert row.result["accuracy"] is None
    assert "letters" in row.result["errors"]["accuracy"]["message"]
    assert {item.metric for item in found} == {"structure", "parameters", "flops"}


@one_database
def test_accuracy_and_latency_of_two_models(supervisor, subject, database):
    digits = {"name": "digits", "format": "digits", "path": None, "label_space": "digits"}
    subjects = [subject("tiny"), subject("wide")]
    comparison_id, ids = comparison_of(database, subjects, ["accuracy", "latency"], digits)
    for job_id in ids:
        run(supervisor, job_id)
    with database.read() as session:
        row = session.get_one(Comparison, comparison_id)
        measured = session.scalars(select(Measurement).where(Measurement.kind == "latency")).one()
    assert row.state == "succeeded"
    assert row.result["architecture"] is None
    assert row.result["errors"] == {}
    ledger = row.result["accuracy"]["ledger"]
    assert sum(ledger.values()) == row.result["accuracy"]["items"] > 0
    points = {point["runtime"]: point for point in row.result["latency"]["operating_points"]}
    assert set(points) == {"onnxruntime", "native"}
    assert all(point["a"]["samples"] > 0 and point["ratio"] > 0 for point in points.values())
    assert points["native"]["a"]["runtime"] == "torch"
    assert points["native"]["framework"]["common"] == "onnxruntime"
    assert set(measured.files) == {"samples"}
    machine = row.result["latency"]["machine"]
    assert machine["line"]
    with database.read() as session:
        runs = session.scalars(select(LatencyRun).order_by(LatencyRun.ref)).all()
    assert sorted((each.ref, each.point["runtime"]) for each in runs) == [
        (ref, runtime) for ref in ("planted:tiny@none", "planted:wide@none") for runtime in ("native", "onnxruntime")
    ]
    assert {each.fingerprint for each in runs} == {machine["fingerprint"]}
    assert {each.measurement_id for each in runs} == {measured.id}
    for each in runs:
        side = row.result["a" if each.ref == row.a_ref else "b"]
        assert each.artifact_sha256 == side["artifact"]["sha256"]
        assert each.median_ms == points[each.point["runtime"]]["a" if each.ref == row.a_ref else "b"]["median_ms"]
        assert each.software["packages.onnxruntime"]


@one_database
@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_a_model_against_itself_is_equivalent(supervisor, subject, database, runtime):
    digits = {"name": "digits", "format": "digits", "path": None, "label_space": "digits"}
    tiny = subject("tiny")
    comparison_id, ids = comparison_of(database, [tiny, tiny], ["accuracy"], digits, accuracy_runtime=runtime)
    for job_id in ids:
        run(supervisor, job_id)
    with database.read() as session:
        row = session.get_one(Comparison, comparison_id)
        found = session.scalars(select(Finding).where(Finding.comparison_id == comparison_id)).all()
        measured = session.scalars(select(Measurement).where(Measurement.kind == "predict")).one()
    accuracy = row.result["accuracy"]
    assert (accuracy["verdict"], accuracy["agreement"]) == ("equivalent", 1.0)
    noise = {"items": 512, "flips": 0, "batch": 1, "threads": 2}
    assert accuracy["self_noise"] == {"a": noise, "b": noise}
    told = {item.metric: item.details.get("self_noise") for item in found}
    assert told["top1"] == told["disagreement"] == accuracy["self_noise"]
    assert measured.values["provenance"]["runtime"] == runtime
    assert measured.protocol["execution"] == {"runtime": runtime, "device": "cpu", "batch": 32, "threads": 1}


def test_a_comparison_of_what_cannot_be_loaded_fails_with_the_reason(supervisor, subject, job, database):
    comparison_id, ids = comparison_of(database, [subject("tiny"), subject("raises")], ["architecture"])
    for job_id in ids:
        run(supervisor, job_id)
    with database.read() as session:
        row = session.get_one(Comparison, comparison_id)
    assert row.state == "failed"
    assert row.error == job(ids[1]).error
    assert "ZeroDivisionError" in row.error["message"]


def test_a_changed_data_set_is_refused(supervisor, add, subject, job, database):
    digits = {"name": "digits", "format": "digits", "path": None, "label_space": "digits"}
    with database.write() as session:
        datasets.fill(
            session,
            "digits",
            items=1,
            classes=10,
            digest="another",
            labels_digest="labels-another",
            label_space="digits",
        )
    inspect = JobSpec("inspect", JobKind.INSPECT, {"listing": subject("tiny")})
    payload = {"listing": subject("tiny"), "dataset": digits, "runtime": "onnxruntime", "device": "cpu"}
    ids = add(inspect, JobSpec("predict", JobKind.PREDICT, payload, needs={"inspect": "inspect"}))
    for job_id in ids:
        run(supervisor, job_id)
    assert job(ids[1]).error["code"] == "dataset-changed"
    assert count(database, Measurement) == 1


@one_database
def test_a_database_that_is_gone_when_waiting_jobs_are_rung_for_ends_no_worker(supervisor, inspect_job, quick):
    claim = supervisor.claim(inspect_job("tiny"))
    gone = Database("postgresql://127.0.0.1:1/gone")
    ring_released(gone, quick.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"}), claim)
