"""The doorbell: tells Celery workers that jobs are in the database. Losing a ring loses nothing."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import structlog

from app import tracing

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence

    from celery import Celery

    from app.settings import Settings

TASK = "zooaudit.run"
"""Name of the task that runs one job; its only argument is the job's id."""

ENOUGH = 50
"""Messages that may wait on a queue. Each is still to bring a worker, who then stays until nothing is ready."""

_SOCKET_TIMEOUT_S = 5.0

_log = structlog.get_logger(__name__)


def ring(settings: Settings, job_ids_by_device: Mapping[str, Sequence[uuid.UUID]]) -> int:
    """Send one message a job to the queue of its device class, unless enough wait there; return how many were sent.

    Call it after the commit: who comes for a message that waits now then finds these jobs too. Without a broker it does
    nothing, because local workers poll. A broker that does not answer is logged, never raised: the reaper rings again.
    """
    if settings.broker_url is None or not any(job_ids_by_device.values()):
        return 0
    sent = 0
    try:
        celery = _celery(settings.broker_url)
        # One that is kept: to connect takes longer than to send.
        with tracing.span("ring", kind="PRODUCER"), celery.producer_pool.acquire(block=True) as producer:
            for device, job_ids in job_ids_by_device.items():
                waiting = producer.channel.queue_declare(queue=device, durable=True, auto_delete=False).message_count
                for job_id in job_ids[: max(0, ENOUGH - waiting)]:
                    celery.send_task(TASK, args=[str(job_id)], queue=device, producer=producer, retry=False)
                    sent += 1
    except Exception as error:  # noqa: BLE001 - the row is the truth; whatever the broker does, the request succeeded
        _log.warning("ring failed", error=str(error), sent=sent)
    return sent


def prepare(settings: Settings) -> None:
    """Import what ringing takes, most of a second, so that the first ring is not late. Connects to nothing."""
    if settings.broker_url is not None:
        celery = _celery(settings.broker_url)
        _made_when_asked_for = celery.producer_pool, celery.connection_for_write().transport


@lru_cache(maxsize=4)
def _celery(broker_url: str) -> Celery:
    # Celery takes longer to import than the rest of the service; the embedded default never needs it.
    from celery import Celery  # noqa: PLC0415

    celery = Celery("zooaudit", broker=broker_url)
    timeouts = {"socket_timeout": _SOCKET_TIMEOUT_S, "socket_connect_timeout": _SOCKET_TIMEOUT_S}
    # kombu would by itself try again for six seconds while nothing listens there, whatever Celery's settings say.
    celery.conf.update(
        broker_transport_options=timeouts | {"max_retries": 0},
        broker_connection_timeout=_SOCKET_TIMEOUT_S,
        broker_connection_retry=False,
        broker_connection_max_retries=0,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
    )
    return celery
