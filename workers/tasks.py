"""The one Celery task. This process never imports a framework: CUDA and thread pools do not survive its forks."""

from __future__ import annotations

import signal
import threading
import uuid
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from celery.signals import worker_process_shutdown

from app import queue, tracing
from app.db.session import Database
from app.settings import Settings
from workers.celery_app import app
from workers.engines import EngineChoice
from workers.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.db.jobs import Claim

_stop = threading.Event()


@cache
def _process() -> tuple[Supervisor, EngineChoice]:
    """Make what this pool process needs, at its first task: connections do not survive a fork."""
    tracing.configure("zooaudit-worker")
    settings = Settings()
    engines = EngineChoice()
    return Supervisor(settings, Database(settings.url), engines, _stop), engines


@app.task(name=queue.TASK, bind=True)
def run(self: Any, job_id: str) -> None:  # noqa: ANN401 - Celery's task
    """Run a job, then whatever else is ready: an exclusive job may have waited for this one's device.

    A job that is not there, not ready or taken is no error: the message was only a doorbell.
    """
    device = (self.request.delivery_info or {}).get("routing_key") or "cpu"
    supervisor, _ = _process()
    with _soft_stop():
        claim: Claim | None = supervisor.claim(uuid.UUID(job_id)) or supervisor.claim_next(device)
        while claim is not None:
            supervisor.run(claim)
            claim = None if _stop.is_set() else supervisor.claim_next(device)


@contextmanager
def _soft_stop() -> Iterator[None]:
    """Turn the pool's SIGTERM, which would end this process at once, into a stop that queues the job again first."""
    ends_process = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda _number, _frame: _stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, ends_process)
    if _stop.is_set():
        signal.raise_signal(signal.SIGTERM)


@worker_process_shutdown.connect
def _on_end(**_: object) -> None:
    if _process.cache_info().currsize:
        _process()[1].close()
        # A pool process ends without what others do at their exit.
        tracing.end()
