"""What Prometheus scrapes. Jobs are counted by the database at that moment, requests by this process."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from app.db import retention
from app.services import telling
from app.services.job_counts import BOUNDS_S, JobCounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from app.db.session import Database
    from app.services.job_counts import Counts, Times
    from app.settings import Settings

_log = structlog.get_logger(__name__)

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
REQUEST_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of the histogram of request times, seconds."""

_QUEUE = ("kind", "device", "readiness")


class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Histogram(
            "zooaudit_http_request_duration_seconds",
            "Time from a request to the end of its answer, of this process.",
            ("method", "route", "status"),
            buckets=REQUEST_BOUNDS_S,
            registry=self.registry,
        )

    @contextmanager
    def of(self, database: Database, settings: Settings) -> Iterator[None]:
        """Tell of what this database holds at every scrape meanwhile."""
        collectors = (_Jobs(database), _Webhooks(database), _Overdue(database, settings))
        for each in collectors:
            self.registry.register(each)
        try:
            yield
        finally:
            for each in collectors:
                self.registry.unregister(each)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. ``route`` is the template of its path: there must be few."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus, of type ``MEDIA_TYPE``."""
        return generate_latest(self.registry)


class _Jobs(Collector):
    def __init__(self, database: Database) -> None:
        self._counts = JobCounts(database)

    def collect(self) -> Iterator[Metric]:
        """Ask the database; without its answer, say only that."""
        up = GaugeMetricFamily("zooaudit_database_up", "Whether the database gave the numbers of jobs.")
        try:
            counts = self._counts.read()
        except SQLAlchemyError as error:
            _log.warning("the database gave no numbers of jobs", error=str(error))
            up.add_metric((), 0)
            yield up
            return
        up.add_metric((), 1)
        yield up
        yield from _active(counts)
        yield from _ended(counts)


class _Overdue(Collector):
    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def collect(self) -> Iterator[Metric]:
        """Ask the database; without its answer there is nothing to tell."""
        overdue = GaugeMetricFamily(
            "zooaudit_retention_overdue", "Rows that have been kept for longer than the settings say.", labels=("what",)
        )
        try:
            with self._database.read() as session:
                for what, rows in retention.overdue(session, self._settings):
                    overdue.add_metric((what,), rows)
        except SQLAlchemyError:
            return
        yield overdue


class _Webhooks(Collector):
    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[Metric]:
        """Ask the database; without its answer there is nothing to tell, and ``zooaudit_database_up`` says so."""
        try:
            with self._database.read() as session:
                found = telling.counts(session)
        except SQLAlchemyError:
            return
        pending = GaugeMetricFamily("zooaudit_webhook_messages_pending", "Messages that enabled webhooks wait for.")
        pending.add_metric((), found.pending)
        oldest = GaugeMetricFamily(
            "zooaudit_webhook_messages_oldest_seconds", "Time since what the oldest of them tells of happened."
        )
        if found.oldest_s is not None:
            oldest.add_metric((), found.oldest_s)
        disabled = GaugeMetricFamily("zooaudit_webhooks_disabled", "Webhooks that the service disabled.")
        disabled.add_metric((), found.disabled)
        yield from (pending, oldest, disabled)


def _active(counts: Counts) -> Iterator[Metric]:
    depth = GaugeMetricFamily(
        "zooaudit_queue_jobs", "Queued jobs: ready, or waiting for other jobs or a retry.", labels=_QUEUE
    )
    oldest = GaugeMetricFamily(
        "zooaudit_queue_oldest_seconds", "Time that the oldest ready job has been ready.", labels=_QUEUE[:2]
    )
    running = GaugeMetricFamily("zooaudit_jobs_running", "Running jobs.", labels=_QUEUE[:2])
    expired = GaugeMetricFamily(
        "zooaudit_jobs_expired",
        "Running jobs whose lease has ended and that no reaper has seen yet.",
        labels=_QUEUE[:2],
    )
    states = GaugeMetricFamily("zooaudit_jobs", "Jobs by state.", labels=("state",))
    for queued in counts.queued:
        where = (queued.kind, queued.device)
        depth.add_metric((*where, "ready"), queued.ready)
        depth.add_metric((*where, "waiting"), queued.waiting)
        if queued.ready_since is not None:
            oldest.add_metric(where, max(0.0, (counts.at - queued.ready_since).total_seconds()))
    for each in counts.running:
        running.add_metric((each.kind, each.device), each.jobs)
        expired.add_metric((each.kind, each.device), each.expired)
    for state, jobs in counts.states().items():
        states.add_metric((state,), jobs)
    yield from (depth, oldest, running, expired, states)


def _ended(counts: Counts) -> Iterator[Metric]:
    ended = CounterMetricFamily(
        "zooaudit_jobs_ended", "Jobs that have ended.", labels=("kind", "outcome", "failure_class")
    )
    times = HistogramMetricFamily(
        "zooaudit_job_duration_seconds",
        "Time of a job's last attempt, from its claim to the job's end.",
        labels=("kind", "outcome"),
    )
    attempts = CounterMetricFamily("zooaudit_job_attempts", "Claims of jobs.", labels=("kind",))
    losses = CounterMetricFamily("zooaudit_job_lease_losses", "Attempts that lost their lease.", labels=("kind",))
    tally = counts.tally
    for (kind, state, failure_class), jobs in tally.ended.items():
        ended.add_metric((kind, state, failure_class or ""), jobs)
    for (kind, state), each in tally.times.items():
        times.add_metric((kind, state), _cumulative(each), each.seconds)
    for kind, number in tally.attempts.items():
        attempts.add_metric((kind,), number)
        losses.add_metric((kind,), tally.lease_losses[kind])
    yield from (ended, times, attempts, losses)


def _cumulative(times: Times) -> list[tuple[str, float]]:
    names = [*map(str, BOUNDS_S), "+Inf"]
    below = accumulate(times.buckets[index] for index in range(len(names)))
    return list(zip(names, below, strict=True))
