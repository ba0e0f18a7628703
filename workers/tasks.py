"""The one Celery task. This process never imports a framework: CUDA and thread pools do not survive its forks."""

from __future__ import annotations

import signal
import uuid
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from billiard import pool
from celery.signals import worker_process_init, worker_process_shutdown, worker_shutting_down
from sqlalchemy.exc import SQLAlchemyError

from app import queue, tracing
from app.db.session import Database
from app.settings import Settings
from workers.celery_app import app
from workers.engine.isolation import die_with_parent
from workers.engines import EngineChoice
from workers.stopping import Stop
from workers.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.db.jobs import Claim

_log = structlog.get_logger()

_RESULTS_TENTHS_S = 10
"""Time in which Celery has to read a pool process's last result at its end."""

_of_worker = Stop()
"""Made before the pool's processes are forked, which share it."""


class Process(NamedTuple):
    """What one process of the pool works with."""

    supervisor: Supervisor
    engines: EngineChoice
    stop: Stop


@cache
def _process() -> Process:
    """Make what this pool process needs, after its fork: connections do not survive one."""
    tracing.configure("zooaudit-worker")
    settings = Settings()
    engines, stop = EngineChoice(), Stop(_of_worker)
    return Process(Supervisor(settings, Database(settings.url), engines, stop), engines, stop)


@app.task(name=queue.TASK, bind=True)
def run(self: Any, job_id: str) -> None:  # noqa: ANN401 - Celery's task
    """Run a job, then whatever else is ready: an exclusive job may have waited for this one's device.

    A job that is not there, not ready or taken is no error: the message was only a doorbell.
    """
    device = (self.request.delivery_info or {}).get("routing_key") or "cpu"
    supervisor, _, stop = _process()
    with _soft_stop(stop):
        wanted: uuid.UUID | None = uuid.UUID(job_id)
        while not stop.asked() and (claim := _claim(supervisor, wanted, device)):
            supervisor.run(claim)
            wanted = None


def _claim(supervisor: Supervisor, wanted: uuid.UUID | None, device: str) -> Claim | None:
    """Claim the wanted job or the next; None also when the database does not answer: the reaper rings again."""
    try:
        return (supervisor.claim(wanted) if wanted else None) or supervisor.claim_next(device)
    except SQLAlchemyError as error:
        _log.warning("no claim", error=str(error))
        return None


@contextmanager
def _soft_stop(stop: Stop) -> Iterator[None]:
    """Turn a SIGTERM to this process, which would end it at once, into a stop that queues the job again first."""
    told = False

    def tell(_number: int, _frame: object) -> None:
        nonlocal told
        told = True
        stop.ask(0.0)

    ends_process = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, tell)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, ends_process)
    if told:
        signal.raise_signal(signal.SIGTERM)


@worker_shutting_down.connect
def _on_shutdown(how: str, **_: object) -> None:
    """Have jobs end in their time or be handed back: Celery by itself waits for them as long as they take."""
    _of_worker.ask(Settings().stop_s if how == "Warm" else 0.0)


@worker_process_init.connect
def _on_start(**_: object) -> None:
    # Celery's processes go on by themselves when the one that started them is killed.
    die_with_parent(signal.SIGTERM)
    # The first job need not wait for it. It connects to nothing: Celery gives this four seconds.
    _process()
    # A Celery that ends may read no more results; each process would wait half a minute for it. Nothing is lost: the
    # result only acknowledges a doorbell.
    pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = _RESULTS_TENTHS_S


@worker_process_shutdown.connect
def _on_end(**_: object) -> None:
    if _process.cache_info().currsize:
        _process().engines.close()
        # A pool process ends without what others do at their exit.
        tracing.end()
