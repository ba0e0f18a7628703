"""How a process logs: one line an event on standard error, as JSON unless a terminal reads it."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import structlog

from app import tracing

if TYPE_CHECKING:
    from typing import TextIO

    from structlog.typing import Processor


def configure(stream: TextIO | None = None) -> None:
    """Set up the logs of this process, also those of uvicorn, Celery and other libraries.

    Only a process's own entry calls this. ``stream`` is standard error by default.
    """
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        tracing.log_ids,
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if stream.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.access", "uvicorn.error"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    # app.api.access writes the line of a request, with its id.
    logging.getLogger("uvicorn.access").disabled = True
    # It tells of every migration that it looks at, at each look.
    logging.getLogger("alembic").setLevel(logging.WARNING)
