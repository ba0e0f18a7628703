"""The life of a small process that looks at the database again and again: the reaper, the scheduler."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app import logs
from app.db.session import Database
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

_log = structlog.get_logger()


def until_told(
    name: str, look: Callable[[Settings, Database], Callable[[], object]], every_s: Callable[[Settings], float]
) -> None:
    """Call what ``look`` returns every so many seconds until SIGTERM or SIGINT; a failing database is tried again."""
    logs.configure()
    settings = Settings()
    database = Database(settings.url)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    once = look(settings, database)
    while not stop.is_set():
        started = time.monotonic()
        try:
            once()
        except SQLAlchemyError as error:
            _log.warning(f"the {name} could not work", error=str(error))
        stop.wait(max(0.0, every_s(settings) - (time.monotonic() - started)))
    database.dispose()
