import threading
from pathlib import Path

import pytest

from app.db import jobs
from app.db.tables import Job
from app.domain.plan import JobSpec
from app.domain.states import JobKind
from workers.engines import EngineChoice
from workers.supervisor import Supervisor

PLANTED = Path(__file__).parent / "planted"


@pytest.fixture(scope="session")
def engines():
    """One warm template for all tests, as a worker has it; no fault may break it."""
    started = EngineChoice()
    yield started
    started.close()


@pytest.fixture
def stop():
    return threading.Event()


@pytest.fixture
def quick(settings, database, tmp_path):
    """Settings with limits that planted faults reach within seconds."""
    return settings.model_copy(
        update={
            "data_dir": tmp_path / "data",
            "database_url": database.engine.url.render_as_string(hide_password=False),
            "broker_url": None,
            "lease_s": 1.5,
            "engine_timeout_s": 30.0,
            "engine_memory_bytes": 3 * 2**29,
        }
    )


@pytest.fixture
def supervisor_with(quick, database, engines, stop):
    """Make a supervisor with other settings."""

    def make(**values):
        return Supervisor(quick.model_copy(update=values), database, engines, stop)

    return make


@pytest.fixture
def supervisor(supervisor_with):
    return supervisor_with()


@pytest.fixture
def subject():
    """Name a planted model as jobs name their listings."""

    def of(name):
        ref = f"planted:{name}@none"
        return {"ref": ref, "zoo": "planted", "name": name, "weights": "none", "folder": str(PLANTED)}

    return of


@pytest.fixture
def add(database):
    """Store jobs; return their ids in order."""

    def store(*specs):
        with database.write() as session:
            ids = jobs.add(session, specs)
        return [ids[spec.handle] for spec in specs]

    return store


@pytest.fixture
def inspect_job(add, subject):
    def store(name):
        return add(JobSpec(f"inspect {name}", JobKind.INSPECT, {"listing": subject(name)}))[0]

    return store


@pytest.fixture
def job(database):
    """Read a job's row."""

    def read(job_id):
        with database.read() as session:
            return session.get_one(Job, job_id)

    return read
