# ruff: noqa: N802 - a stand-in has the names of its library

import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.db import jobs
from app.db.tables import Job
from app.domain.plan import JobSpec
from app.domain.states import JobKind
from workers.engines import EngineChoice
from workers.stopping import Stop
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
    return Stop()


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


class FakeNvml:
    """Shaped like ``pynvml``: one board or several, whose answers a test sets and whose faults it plants.

    ``answers`` maps a function's name to what it returns, or to the error that it raises.
    """

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC = 1, 0

    def __init__(self, uuids=("GPU-aa11", "GPU-bb22")):
        self.uuids = list(uuids)
        self.calls = []
        self.answers = {
            "nvmlDeviceGetClockInfo": 1500,
            "nvmlDeviceGetPowerUsage": 250_000,
            "nvmlDeviceGetTemperature": 60,
            "nvmlDeviceGetCurrentClocksEventReasons": 0,
            "nvmlDeviceGetComputeRunningProcesses": [os.getpid()],
            "nvmlDeviceGetGraphicsRunningProcesses": [],
            "nvmlDeviceGetTotalEccErrors": 0,
            "nvmlDeviceGetName": "NVIDIA Fake",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 * 2**30),
            "nvmlDeviceGetMaxClockInfo": 1980,
            "nvmlDeviceGetApplicationsClock": 1980,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetPersistenceMode": 1,
            "nvmlDeviceGetEccMode": [1, 1],
            "nvmlDeviceGetMigMode": [0, 0],
            "nvmlSystemGetDriverVersion": "580.10",
            "nvmlSystemGetCudaDriverVersion_v2": 13000,
        }
        for name in ("NotSupported", "GpuIsLost", "ResetRequired", "NoPermission", "FunctionNotFound", "Timeout"):
            setattr(self, f"NVMLError_{name}", type(f"NVMLError_{name}", (self.NVMLError,), {}))
        for name in self.answers:
            setattr(self, name, partial(self._answer, name))

    def _answer(self, name, *_):
        self.calls.append(name)
        value = self.answers[name]
        if isinstance(value, type) and issubclass(value, Exception):
            raise value
        return [SimpleNamespace(pid=pid) for pid in value] if name.endswith("RunningProcesses") else value

    def nvmlShutdown(self):
        self.calls.append("nvmlShutdown")

    def nvmlDeviceGetCount(self):
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index):
        if index >= len(self.uuids):
            raise self.NVMLError
        return self.uuids[index]

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid not in self.uuids and not uuid.startswith("MIG-"):
            raise self.NVMLError_GpuIsLost
        return uuid

    def nvmlDeviceGetUUID(self, handle):
        return handle

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle):
        return self.uuids[int(handle[-1])]


@pytest.fixture
def nvml():
    """A driver that answers as a healthy board does; no GPU is needed, and none is measured."""
    return FakeNvml()
