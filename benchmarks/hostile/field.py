"""Where hostile files meet a worker: one database, one supervisor, real engines."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.db import jobs
from app.db.tables import Job
from app.domain.plan import JobSpec
from app.domain.states import JobKind
from hostile import PAYLOAD, Case, payload
from hostile.pickles import Runs
from workers.stopping import Stop
from workers.supervisor import Supervisor
from workers.watch import resident_bytes_and_tasks

if TYPE_CHECKING:
    from pathlib import Path

    from app.db.session import Database
    from app.settings import Settings
    from workers.engines import Engines, RunningEngine

_CACHED = "squeezenet1_1-b8a52dc0.pth"
_SAMPLE_S = 0.02
_MIB = 2**20

ZOO = """
[models.m]
framework = "{framework}"
builder = "models.py:build"
{weights}
[models.m.input]
height = 8
width = 8
colour = "grey"
"""
_KERAS = """
def build():
    import keras

    inputs = keras.Input((8, 8, 1))
    return keras.Model(inputs, keras.layers.Flatten()(inputs))
"""


@dataclass(frozen=True)
class Outcome:
    """What became of a file: the job's state and error, whether its payload ran, seconds, and the engine's peak."""

    state: str
    failure: str
    code: str
    message: str
    evidence: dict[str, Any]
    ran: bool
    seconds: float
    peak_bytes: int


class _Sampled:
    """Engines whose memory is looked at while they run."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self.peak = 0

    def start(self, document: dict[str, Any], stderr: Path) -> RunningEngine:
        running = self._engines.start(document, stderr)
        threading.Thread(target=self._watch, args=(running.pid,), daemon=True).start()
        return running

    def _watch(self, pid: int) -> None:
        while (used := resident_bytes_and_tasks(pid)[0]) > 0:
            self.peak = max(self.peak, used)
            time.sleep(_SAMPLE_S)


class Field:
    """Sends files through a worker, one after the other. ``torch_home`` is the cache that its engines read."""

    def __init__(self, base: Path, settings: Settings, database: Database, engines: Engines, torch_home: Path) -> None:
        self._base, self._settings, self._database = base, settings, database
        self._engines = _Sampled(engines)
        self._cache = torch_home / "hub" / "checkpoints"
        self._number = 0

    def send(self, case: Case) -> Outcome:
        """Run the job that looks at a file to its end."""
        self._number += 1
        folder = self._base / f"{self._number:03d}"
        folder.mkdir()
        canary = folder / "payload-ran"
        subject = self._place(case, folder, canary)
        limits = {"engine_timeout_s": 8.0, "engine_cpu_s": 4.0} if case.slow else {}
        settings = self._settings.model_copy(update=limits)
        supervisor = Supervisor(settings, self._database, self._engines, Stop())
        with self._database.write() as session:
            ids = jobs.add(session, self._jobs(case, subject))
        self._engines.peak = 0
        started = time.monotonic()
        for job_id in ids.values():
            if claim := supervisor.claim(job_id):
                supervisor.run(claim)
        seconds = time.monotonic() - started
        with self._database.read() as session:
            row = session.get_one(Job, job_id)
        error = row.error or {"class": "", "code": "", "message": ""}
        ran = canary.exists() or f"exit status {PAYLOAD}" in error["message"]
        return Outcome(
            str(row.state),
            error["class"],
            error["code"],
            error["message"],
            error.get("evidence", {}),
            ran,
            seconds,
            self._engines.peak,
        )

    def _jobs(self, case: Case, subject: dict[str, Any]) -> list[JobSpec]:
        looks = JobSpec(f"inspect {self._number}", JobKind.INSPECT, {"listing": subject})
        if case.route != "run":
            return [looks]
        digits = {"name": "digits", "format": "digits", "path": None, "label_space": "digits"}
        listing = subject | {"contract": {"height": 8, "width": 8}}
        asked = {"listing": listing, "dataset": digits, "runtime": "onnxruntime", "device": "cpu"}
        needs = {"inspect": looks.handle}
        return [looks, JobSpec(f"predict {self._number}", JobKind.PREDICT, asked, needs=needs)]

    def _place(self, case: Case, folder: Path, canary: Path) -> dict[str, Any]:
        """Write a file where its route finds it; return the subject that leads there."""
        if case.route == "torchvision":
            self._cache.mkdir(parents=True, exist_ok=True)
            (path := self._cache / _CACHED).unlink(missing_ok=True)
            case.make(path, canary)
            return _subject("torchvision", "squeezenet1_1", "IMAGENET1K_V1")
        if case.route in {"file", "run"}:
            case.make(path := folder / "model.onnx", canary)
            return _subject("file", str(path), None, ref=f"file:{path}")
        weights = 'weights = { v1 = "model.weights.h5" }' if case.route == "keras" else ""
        framework = "keras" if case.route == "keras" else "torch"
        (folder / "zoo.toml").write_text(ZOO.format(framework=framework, weights=weights), encoding="utf-8")
        (folder / "models.py").write_text(_KERAS, encoding="utf-8")
        case.make(folder / ("model.weights.h5" if case.route == "keras" else "models.py"), canary)
        return _subject("hostile", "m", "v1" if case.route == "keras" else "none", folder=str(folder))


def _subject(
    zoo: str, name: str, weights: str | None, *, folder: str | None = None, ref: str | None = None
) -> dict[str, Any]:
    ref = ref or f"{zoo}:{name}@{weights}"
    return {"ref": ref, "zoo": zoo, "name": name, "weights": weights, "folder": folder}


def control(folder: Path) -> bool:
    """Say whether the payload does run where nothing keeps it: a pickle of it, loaded by Python itself."""
    canary = folder / "control"
    statement = f"import pickle; pickle.loads({pickled(canary)!r})"
    done = subprocess.run([sys.executable, "-c", statement], check=False)
    return canary.exists() and done.returncode == PAYLOAD


def pickled(canary: Path) -> bytes:
    """Return a pickle of the payload."""
    return pickle.dumps(Runs(payload(canary)))


def torch_home(folder: Path) -> Path:
    """Make a cache of torch hub that engines started from here on read."""
    home = folder / "torch"
    home.mkdir()
    os.environ["TORCH_HOME"] = str(home)
    return home


def mib(size: int) -> str:
    """Write a size in MiB."""
    return f"{size / _MIB:.0f}"


def empty(folder: Path) -> bool:
    """Say whether nothing is left in the scratch folder of a data folder."""
    return not any((folder / "scratch").iterdir()) if (folder / "scratch").exists() else True


def forget(folder: Path) -> None:
    """Remove a folder with what hostile files left in it."""
    shutil.rmtree(folder, ignore_errors=True)
