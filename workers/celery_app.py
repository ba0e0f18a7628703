"""The Celery application of production workers: ``celery --app workers.celery_app worker --queues cpu``.

A message only says that a worker should look; the database decides whether it may work and whether its result counts.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_init

from app import logs
from app.settings import Settings
from workers import temporary
from workers.stopping import MARGIN_S

SOCKET_TIMEOUT_S = 10.0
VISIBILITY_S = 3600


def make_app(settings: Settings) -> Celery:
    """Return the application for these settings."""
    app = Celery("zooaudit", broker=settings.broker_url, include=["workers.tasks"])
    app.conf.update(
        # Acknowledged when the attempt has ended: a worker that dies leaves the message to another.
        task_acks_late=True,
        # A task that kills its worker would come back at once, for ever; the lease recovers with back-off instead.
        task_reject_on_worker_lost=False,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # On SIGQUIT jobs are handed back at once (workers.tasks); after this time what is left is killed.
        worker_soft_shutdown_timeout=MARGIN_S + 2.0,
        worker_enable_soft_shutdown_on_idle=False,
        # The template would be forked with every new pool process; a job's memory lives in the engine anyway.
        worker_max_tasks_per_child=None,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            # A redelivered message is harmless: its claim finds nothing.
            "visibility_timeout": VISIBILITY_S,
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_connect_timeout": SOCKET_TIMEOUT_S,
            "socket_keepalive": True,
        },
        task_default_queue="cpu",
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
    )
    return app


app = make_app(Settings())


@setup_logging.connect
def _configure_logs(**_: Any) -> None:  # noqa: ANN401 - what Celery would have set up
    logs.configure()


@worker_init.connect
def _own_temporary_files(**_: Any) -> None:  # noqa: ANN401 - the worker, before its pool is forked
    temporary.use_own(Settings().data_dir)
