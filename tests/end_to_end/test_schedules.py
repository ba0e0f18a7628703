"""A schedule from its due times to the drift between them: embedded, and with real Celery on Redis and Postgres."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from app.db import schedules as rows
from app.db.schedule_tables import Schedule
from app.db.session import Database
from app.main import create_app
from app.settings import Settings

ROOT = Path(__file__).parents[2]
WAIT_S = 120.0
CELERY = [
    "celery",
    "--app",
    "workers.celery_app",
    "worker",
    "--queues",
    "cpu",
    "--concurrency",
    "1",
    "--without-mingle",
]

pytestmark = pytest.mark.slow


@pytest.fixture
def zoo(network):
    """Return what writes a team's own zoo: models by name, each with its channels."""

    def write(folder, models):
        folder.mkdir(exist_ok=True)
        lines = []
        for name, channels in models.items():
            network(folder / f"{name}.onnx", channels)
            lines += [f"[models.{name}]", 'framework = "onnx"', f'weights = {{ v1 = "{name}.onnx" }}', "classes = 10"]
            lines += [f"[models.{name}.input]", "height = 16", "width = 16"]
        (folder / "zoo.toml").write_text("\n".join(lines))

    return write


@contextlib.contextmanager
def processes(settings, *commands):
    """Run worker processes as an operator would, each in a group of its own."""
    environment = {
        **os.environ,
        "ZOOAUDIT_DATA_DIR": str(settings.data_dir),
        "ZOOAUDIT_DATABASE_URL": settings.url,
        "ZOOAUDIT_LOCAL_ZOOS": os.pathsep.join(map(str, settings.local_zoos)),
    }
    if settings.broker_url:
        environment["ZOOAUDIT_BROKER_URL"] = settings.broker_url
    started = [
        subprocess.Popen([sys.executable, "-m", *command], env=environment, cwd=ROOT, process_group=0)
        for command in commands
    ]
    try:
        yield
    finally:
        for each in started:
            each.terminate()
        for each in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.wait(timeout=30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(each.pid, signal.SIGKILL)
            each.wait()


def come_due(database, minutes):
    """Make every schedule one of the minute that was so many minutes ago, and due since then."""
    with database.write() as session:
        due = rows.clock(session).replace(second=0, microsecond=0) - timedelta(minutes=minutes)
        cron = f"{due.minute} {due.hour} * * *"
        session.execute(update(Schedule).values(cron=cron, time_zone="UTC", next_due_at=due))


def runs(client, where, number):
    """Wait until a schedule has that many audits, all of them ended; return them, the latest first."""
    deadline = time.monotonic() + WAIT_S
    while True:
        found = client.get(f"{where}/runs").json()["items"]
        if len(found) == number and {run["state"] for run in found} <= {"succeeded", "failed", "cancelled"}:
            assert {run["state"] for run in found} == {"succeeded"}
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


@pytest.fixture(params=["embedded", "production"])
def service(request, tmp_path):
    zoos = (tmp_path / "left", tmp_path / "right")
    common = {"data_dir": tmp_path / "data", "local_zoos": zoos}
    if request.param == "embedded":
        return Settings(**common), (["workers.local", "--schedules"],)
    urls = {name: request.getfixturevalue(name) for name in ("postgres_url", "redis_url")}
    settings = Settings(**common, database_url=urls["postgres_url"], broker_url=urls["redis_url"])
    # Two schedulers, as nobody should have to count them.
    return settings, (CELERY, ["workers.reaper"], ["workers.scheduler"], ["workers.scheduler"])


def test_two_runs_of_a_schedule_and_what_changed_between_them(service, zoo, tmp_path):
    settings, commands = service
    left, right = tmp_path / "left", tmp_path / "right"
    zoo(left, {"net": 4, "old": 4})
    zoo(right, {"net": 4, "old": 4})
    asked = {"zoos": ["left", "right"], "dimensions": ["architecture"]}
    with TestClient(create_app(settings)) as client:
        database = Database(settings.url)
        reply = client.post("/v1/schedules", json={"name": "own", "cron": "0 3 * * *", "request": asked})
        assert reply.status_code == 201, reply.text
        where = reply.headers["Location"]
        with processes(settings, *commands):
            come_due(database, 2)
            (first,) = runs(client, where, 1)
            zoo(left, {"net": 4, "new": 4})
            zoo(right, {"net": 8, "new": 4})
            come_due(database, 1)
            second, _ = runs(client, where, 2)
        database.dispose()
        found = client.get(f"/v1/audits/{second['audit_id']}/drift").json()
        itself = client.get(f"/v1/audits/{first['audit_id']}/drift", params={"against": first["audit_id"]}).json()
    assert (itself["drifted"], itself["summary"]["findings_unchanged"]) == (False, 6)
    assert (found["against"]["id"], found["drifted"], found["listings_kept"]) == (first["audit_id"], True, True)
    assert found["listings"]["new"] == ["left:new@v1", "right:new@v1"]
    assert found["listings"]["gone"] == ["left:old@v1", "right:old@v1"]
    assert [each["ref"] for each in found["artifacts"]] == ["right:net@v1"], "other bytes behind the same name"
    (pair,) = found["pairs"]
    assert (pair["a_ref"], pair["before"], pair["after"]) == ("left:net@v1", "interchangeable", "not_interchangeable")
    moved = {each["metric"]: each for each in found["findings"]["moved"]}
    assert set(moved) == {"structure", "parameters", "flops"}
    assert moved["parameters"]["why"] == ["verdict", "effect"]
    assert moved["parameters"]["after"]["effect"] == pytest.approx(-0.5)
    assert {each["lacks"] for each in found["findings"]["appeared"] + found["findings"]["vanished"]} == {"pair"}
    assert {each["a_ref"] for each in found["findings"]["vanished"]} == {"left:old@v1"}
