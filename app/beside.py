"""A local worker beside this process, on the embedded default. It never outlives this process, however that ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.settings import Settings

_log = structlog.get_logger(__name__)

_LOOK_S = 0.5
_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_WELL_S = 60.0
"""Time after which a worker that ends had started well."""


def _start(settings: Settings, *options: str) -> subprocess.Popen[bytes]:
    """Start a local worker. It hands back what it runs and ends when its standard input closes."""
    with (settings.data_dir / "worker.log").open("ab") as stream:
        # There is no other worker: what needs a GPU would wait for ever, where it can fail and say so.
        return subprocess.Popen(  # noqa: S603 - words of this program, no shell
            [sys.executable, "-m", "workers.local", "--beside", "--device", "cpu", "--device", "gpu", *options],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
        )


@contextmanager
def worker(settings: Settings) -> Iterator[subprocess.Popen[bytes] | None]:
    """Run a local worker meanwhile, which then hands back at once what it runs; on a database with a broker, none."""
    if not settings.embedded:
        yield None
        return
    with _exits_when_told():
        running = _start(settings)
        try:
            yield running
        finally:
            assert running.stdin is not None  # noqa: S101 - a pipe was asked for
            running.stdin.close()
            running.wait()


@contextmanager
def worker_kept(settings: Settings) -> Iterator[None]:
    """Keep a local worker running meanwhile, which also sees to the schedules; on a database with a broker, none."""
    if not settings.embedded:
        yield
        return
    with _exits_when_told(), _Kept(settings, "--schedules"):
        yield


@contextmanager
def _exits_when_told() -> Iterator[None]:
    """Turn SIGTERM, which would end this process at once, into an exit that passes the worker by.

    uvicorn raises the signal again after its own end, too.
    """
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Kept:
    """A local worker that is started again whenever it has ended, as long as this is open. Use as a context manager."""

    def __init__(self, settings: Settings, *options: str) -> None:
        self._settings = settings
        self._options = options
        self._over = threading.Event()
        self._running = _start(settings, *options)
        self._thread = threading.Thread(target=self._keep, name="local worker", daemon=True)

    def __enter__(self) -> None:
        """Look after the worker."""
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        """Tell the worker to stop, and wait until it has: jobs at hand get ``Settings.stop_s``."""
        self._over.set()
        self._thread.join()
        self._running.terminate()
        self._running.wait()

    def _keep(self) -> None:
        pause, started = _PAUSE_S, time.monotonic()
        while not self._over.wait(_LOOK_S):
            status = self._running.poll()
            if status is None:
                continue
            pause = _PAUSE_S if time.monotonic() - started > _WELL_S else min(2 * pause, _LONGEST_PAUSE_S)
            _log.error("the local worker ended; started again", status=status, in_s=pause)
            if self._over.wait(pause):
                return
            self._running, started = _start(self._settings, *self._options), time.monotonic()
