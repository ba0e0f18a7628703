"""The life of a small process that looks at the database again and again: the reaper, the scheduler."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app import logs, tracing
from app.db.session import Database
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_log = structlog.get_logger()


@dataclass(frozen=True)
class Duty:
    """Something to look at every so many seconds. ``end`` is called when it is not looked at any more."""

    name: str
    look: Callable[[], object]
    every_s: float
    end: Callable[[], None] = lambda: None


def until_told(name: str, duties: Callable[[Settings, Database], Sequence[Duty]]) -> None:
    """Do the duties of this process until SIGTERM or SIGINT."""
    logs.configure()
    tracing.configure(f"zooaudit-{name}")
    settings = Settings()
    database = Database(settings.url)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    with doing(duties(settings, database)):
        stop.wait()
    database.dispose()


@contextmanager
def doing(duties: Sequence[Duty]) -> Iterator[None]:
    """Do duties meanwhile, each on a thread of its own, so that none waits for another."""
    stop = threading.Event()
    threads = [threading.Thread(target=_do, args=(duty, stop), name=duty.name) for duty in duties]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _do(duty: Duty, stop: threading.Event) -> None:
    while not stop.is_set():
        started = time.monotonic()
        try:
            duty.look()
        except SQLAlchemyError as error:
            _log.warning(f"the {duty.name} could not work", error=str(error))
        stop.wait(max(0.0, duty.every_s - (time.monotonic() - started)))
    duty.end()
