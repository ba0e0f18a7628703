"""What a dashboard asks of a full database: 100 requests/s, each at a time fixed beforehand, of every kind in turn.

They come with the key of a team, as a service has it that others can reach. A request's time counts from when it was
due, so that one slow answer counts for all that it keeps waiting. Each statement behind a request is explained too: by
which indexes, and none by a sequential scan.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import load_fill
import structlog
from fastapi.testclient import TestClient
from load_serve import a_key, cpu_s, postgres, serving
from rich.console import Console
from rich.table import Table
from sqlalchemy import event, select, text

from app.db import comparisons, findings, listings, migrate
from app.db.session import Database
from app.db.tables import Audit, Comparison, Finding, Listing
from app.main import create_app
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy.orm import Session

CONNECTIONS = 32
TEAM = "red"
"""Sees what is shared, which is all there is, and would see its own."""
_WARM_S = 45.0
"""Seconds at the start that do not count: each process of the API compiles a statement when it first makes it, and each
of its connections prepares one when it makes it for the fifth time (four processes of four, 41 kinds: 33 s).
"""

_LARGE = "SELECT relname FROM pg_class WHERE reltuples > 1000"
"""Tables of which it matters; an empty one is read from end to end at once."""


@dataclass
class Query:
    """One kind of request: its name, its path, and the times that it took in ms."""

    name: str
    path: str
    took_ms: list[float] = field(default_factory=list)


def queries(session: Session) -> list[Query]:
    """Return what is asked: lists, filters that keep many rows and few, sorts, deep cursors, matrices."""
    audits = session.scalars(select(Audit.id).order_by(Audit.created_at).limit(8)).all()
    one = session.scalars(select(Comparison).where(Comparison.state == "succeeded").limit(1)).one()
    rare = session.scalars(select(Finding.architecture).order_by(Finding.architecture.desc()).limit(1)).one()
    since = session.scalars(select(Finding.created_at).order_by(Finding.created_at.desc()).offset(5000).limit(1)).one()
    wanted: list[tuple[str, str, Mapping[str, Any]]] = [
        ("all", "findings", {}),
        ("all, at the middle", "findings", {"cursor": _middle(session, findings.LISTED, Finding, "-magnitude")}),
        ("by effect", "findings", {"sort": "-effect"}),
        ("by effect, at the middle", "findings", _deep(session, findings.LISTED, Finding, "effect")),
        ("the newest", "findings", {"sort": "-created_at"}),
        ("architecture, dimension, by effect", "findings", _of("resnet50", "accuracy", sort="-effect")),
        ("architecture that is rare", "findings", {"architecture": rare, "sort": "-created_at"}),
        ("dimension and verdict", "findings", {"dimension": "latency", "verdict": "outside"}),
        ("dimension, the small ones first", "findings", {"dimension": "accuracy", "sort": "magnitude"}),
        ("verdict inside", "findings", {"verdict": "inside"}),
        ("metric", "findings", {"metric": "top1", "limit": 200}),
        ("metric that is rare", "findings", {"metric": load_fill.RARE_METRIC, "sort": "-effect"}),
        ("zoo", "findings", {"zoo": "timm"}),
        ("zoo that is rare", "findings", {"zoo": load_fill.ZOOS[-1][0], "dimension": "accuracy"}),
        ("audit of whole zoos", "findings", {"audit_id": audits[2]}),
        ("comparison", "findings", {"comparison_id": one.id}),
        ("listing", "findings", {"ref": one.a_ref, "sort": "-created_at"}),
        ("since", "findings", {"since": since.isoformat(), "sort": "created_at"}),
        ("all", "comparisons", {}),
        ("all, at the middle", "comparisons", _deep(session, comparisons.LISTED, Comparison, "-created_at")),
        ("verdict", "comparisons", {"verdict": "inconclusive"}),
        ("queued", "comparisons", {"state": "queued"}),
        ("running", "comparisons", {"state": "running"}),
        ("failed", "comparisons", {"state": "failed"}),
        ("zoo", "comparisons", {"zoo": "torchvision"}),
        ("zoo that is rare", "comparisons", {"zoo": load_fill.ZOOS[-1][0]}),
        ("architecture that is rare", "comparisons", {"architecture": rare}),
        ("listing", "comparisons", {"ref": one.b_ref}),
        ("audit", "comparisons", {"audit_id": audits[2], "sort": "-finished_at"}),
        ("zoo", "listings", {"zoo": "huggingface"}),
        ("all, at the middle", "listings", _deep(session, listings.LISTED, Listing, "ref")),
        ("architecture", "listings", {"architecture": "resnet50"}),
        ("text", "listings", {"match": "resnet"}),
        ("text that is rare", "listings", {"match": "onnx:net2999."}),
        ("text, by name", "listings", {"match": "resnet", "sort": "name"}),
        ("weights that are rare", "listings", {"weights": "fp8"}),
        ("label space that is rare", "listings", {"label_space": "digits"}),
        ("all", "matrix", {}),
        ("dimension", "matrix", {"dimension": "accuracy"}),
        ("architecture", "matrix", {"architecture": "resnet50"}),
        ("audit of whole zoos", "matrix", {"audit_id": audits[2]}),
    ]
    return [Query(f"{list_}: {name}", f"/v1/{list_}?{urlencode(asked)}") for name, list_, asked in wanted]


def _of(architecture: str, dimension: str, **more: Any) -> dict[str, Any]:
    return {"architecture": architecture, "dimension": dimension, **more}


def _deep(session: Session, listed: Any, entity: Any, sort: str) -> dict[str, Any]:
    return {"sort": sort, "cursor": _middle(session, listed, entity, sort)}


def _middle(session: Session, listed: Any, entity: Any, sort: str) -> str:
    """Return the cursor of the page that begins in the middle of a list."""
    order = listed.order(sort)
    rows = session.query(entity).count()
    row = session.scalars(select(entity).order_by(*order.by()).offset(rows // 2).limit(1)).one()
    return str(order.cursor(row))


def plans(url: str, asked: list[Query], token: str) -> dict[str, list[str]]:
    """Return by query the tables of more than 1,000 rows that would be read from end to end for it; none should."""
    found: dict[str, list[str]] = {}
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    settings = Settings(database_url=url, data_dir=Path(tempfile.mkdtemp()), broker_url="redis://127.0.0.1:1")
    with TestClient(create_app(settings)) as client:
        engine = client.app.state.database.readers  # type: ignore[attr-defined]
        ran: list[tuple[str, Any]] = []
        event.listen(engine, "before_cursor_execute", lambda _c, _k, said, values, _x, _m: ran.append((said, values)))
        for query in asked:
            ran.clear()
            reply = client.get(query.path, headers={"Authorization": f"Bearer {token}"})
            reply.raise_for_status()
            statements = [each for each in ran if each[0].startswith("SELECT")]
            if not statements:
                raise RuntimeError(f"{query.path} asked the database nothing")
            with engine.connect() as connection:
                explained = [
                    connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {said}", values).scalar_one()
                    for said, values in statements
                ]
                large = set(connection.execute(text(_LARGE)).scalars())
            scanned = {table for plan in explained for table in _scanned(plan[0]["Plan"])}
            found[query.name] = sorted(scanned & large)
    return found


def _scanned(node: Mapping[str, Any]) -> Iterator[str]:
    if node["Node Type"] == "Seq Scan":
        yield node["Relation Name"]
    for child in node.get("Plans", ()):
        yield from _scanned(child)


class Connections:
    """Connections to the API that stay open, each for one request at a time."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def open(self, number: int) -> None:
        """Open this many."""
        for _ in range(number):
            self._free.put_nowait(await asyncio.open_connection("127.0.0.1", self._port))

    async def get(self, path: str) -> int:
        """Ask for a path, read the whole answer, return its status."""
        reader, writer = await self._free.get()
        if reader.at_eof():  # the server closes what nobody used for five seconds
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        headers = f"Host: localhost\r\nAuthorization: Bearer {self._token}"
        writer.write(f"GET {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        self._free.put_nowait((reader, writer))
        return int(head.split(" ", 2)[1])


async def drive(port: int, asked: list[Query], token: str, *, rate: float, seconds: float) -> float:
    """Send requests at times drawn beforehand (Poisson); note each one's time; return requests/s answered.

    Those of the first ``_WARM_S`` seconds, which come before ``seconds``, are not noted.
    """
    connections = Connections(port, token)
    await connections.open(CONNECTIONS)
    rng = random.Random(1)  # noqa: S311 - arrivals want a seed, not secrecy
    at, due = 0.0, []
    while at < _WARM_S + seconds:
        at += rng.expovariate(rate)
        due.append(at)
    order = [asked[number % len(asked)] for number in range(len(due))]
    rng.shuffle(order)
    started = time.perf_counter()

    async def one(when: float, query: Query) -> None:
        await asyncio.sleep(max(0.0, started + when - time.perf_counter()))
        status = await connections.get(query.path)
        if when >= _WARM_S:
            query.took_ms.append(1000 * (time.perf_counter() - started - when))
        if status != 200:
            raise RuntimeError(f"{query.path} was answered with {status}")

    await asyncio.gather(*(one(when, query) for when, query in zip(due, order, strict=True)))
    return len(due) / (time.perf_counter() - started)


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def report(asked: list[Query], scanned: Mapping[str, list[str]]) -> None:
    """Print the table, and the lines that the targets are read from."""
    table = Table("query", "requests", "p50 ms", "p99 ms", "max ms", "read from end to end")
    for query in asked:
        numbers = (statistics.median(query.took_ms), _percentile(query.took_ms, 0.99), max(query.took_ms))
        told = ", ".join(scanned[query.name]) or "-"
        table.add_row(query.name, str(len(query.took_ms)), *(f"{number:.1f}" for number in numbers), told)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    every = [took for query in asked for took in query.took_ms]
    slowest = max(asked, key=lambda query: _percentile(query.took_ms, 0.99))
    print(f"all requests: p50 {statistics.median(every):.1f} ms, p99 {_percentile(every, 0.99):.1f} ms", end=", ")
    print(f"max {max(every):.1f} ms")
    print(f"slowest query: p99 {_percentile(slowest.took_ms, 0.99):.1f} ms ({slowest.name})")
    print(f"sequential scans: {sum(map(len, scanned.values()))}")


def main() -> None:
    """Fill a database, serve it, drive it, explain it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=100.0, help="requests/s")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows")
    parser.add_argument("--processes", type=int, default=4, help="of the API, two for each core (default 4)")
    parser.add_argument("--kept", type=Path, help="folder to keep the filled database in, and to find it in again")
    options = parser.parse_args()
    with postgres(options.kept) as url:
        database = Database(url)
        if load_fill.is_filled(database):
            migrate.upgrade(database)
        else:
            started = time.monotonic()
            load_fill.fill(database, load_fill.Size(int(50_000 * options.scale), int(200_000 * options.scale)))
            print(f"filled in {time.monotonic() - started:.0f} s", flush=True)
        with database.engine.connect() as connection:
            rows = load_fill.counts(connection)
        print(", ".join(f"{number:,} {table}" for table, number in rows.items()), flush=True)
        with database.read() as session:
            asked = queries(session)
        token = a_key(database, TEAM)
        scanned = plans(url, asked, token)
        with serving(url, processes=options.processes) as (port, process):
            busy = cpu_s(process)
            rate = asyncio.run(drive(port, asked, token, rate=options.rate, seconds=options.seconds))
            busy = cpu_s(process) - busy
        cost_ms = 1000 * busy / (rate * (_WARM_S + options.seconds))
        print(f"answered {rate:.1f} requests/s; the API took {cost_ms:.1f} ms of processor time for each")
        report(asked, scanned)
        database.dispose()


if __name__ == "__main__":
    main()
