"""Real scheduler processes that race for the same schedules, some of them killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from app.db import schedules as rows
from app.db.schedule_tables import Schedule, ScheduledRun
from app.db.tables import Audit, Job
from app.domain.ids import new_id
from app.domain.schedules import MOST_CAUGHT_UP
from app.domain.states import FINAL, JobKind
from app.services import audits

ROOT = Path(__file__).parents[2]
REQUEST = {"zoos": ["torchvision", "keras"], "models": ["resnet50"], "weights": "none", "dimensions": ["architecture"]}
WAIT_S = 120.0

pytestmark = pytest.mark.slow


def start(settings):
    environment = {
        **os.environ,
        "ZOOAUDIT_DATA_DIR": str(settings.data_dir),
        "ZOOAUDIT_DATABASE_URL": settings.url,
    }
    if settings.broker_url:
        environment["ZOOAUDIT_BROKER_URL"] = settings.broker_url
    return subprocess.Popen([sys.executable, "-m", "workers.scheduler"], env=environment, cwd=ROOT)


@contextlib.contextmanager
def schedulers(settings, number):
    """Run schedulers; told to stop they end by themselves."""
    started = [start(settings) for _ in range(number)]
    try:
        yield started
        alive = [each for each in started if each.poll() is None]
        for each in alive:
            each.send_signal(signal.SIGTERM)
        # One that was still importing has no handler yet, and ends by the signal itself.
        ended = {each.wait(timeout=30) for each in alive}
        assert ended <= {0, -signal.SIGTERM}
        assert 0 in ended or not alive
    finally:
        for each in started:
            each.kill()
            each.wait()


def add(database, *, missed, minutes):
    """Store a schedule of every minute whose clock has passed that many due times."""
    with database.write() as session:
        first = rows.clock(session).replace(second=0, microsecond=0) - timedelta(minutes=minutes)
        schedule = Schedule(
            id=new_id(),
            name=f"{missed} {new_id()}",
            cron="* * * * *",
            time_zone="Europe/Berlin",
            missed=missed,
            enabled=True,
            request=REQUEST,
            next_due_at=first,
        )
        session.add(schedule)
    return schedule.id


def end_all(database):
    """End every audit, as workers would; return the due times that have run, by schedule."""
    with database.write() as session:
        for audit in session.scalars(select(Audit).where(Audit.state.not_in(FINAL))).all():
            audits.cancel(session, audit.id)
        ran = {}
        for run in session.scalars(select(ScheduledRun).order_by(ScheduledRun.due_at)):
            ran.setdefault(run.schedule_id, []).append(run.due_at)
    return ran


def test_many_schedulers_run_each_due_time_once_while_some_are_killed(database, settings):
    catching_up = [add(database, missed="all", minutes=4) for _ in range(3)]
    latest = [add(database, missed="latest", minutes=60 * 24 * 365) for _ in range(3)]
    skipping = add(database, missed="skip", minutes=60 * 24)
    chance, deadline = random.Random(1), time.monotonic() + WAIT_S  # noqa: S311 - when to kill
    with schedulers(settings, 4) as started:
        while not all(len(ran) >= 5 for ran in map(end_all(database).get, catching_up, [[]] * 3)):
            assert time.monotonic() < deadline
            if end_all(database) and len([each for each in started if each.poll() is None]) > 2:
                chance.choice(started).kill()
            time.sleep(chance.uniform(0.05, 0.5))
    ran = end_all(database)
    for schedule in catching_up:
        steps = {later - earlier for earlier, later in zip(ran[schedule], ran[schedule][1:], strict=False)}
        assert steps == {timedelta(minutes=1)}, "none left out, none twice"
        assert len(ran[schedule]) <= MOST_CAUGHT_UP
    for schedule in [*latest, skipping]:
        assert 1 <= len(ran[schedule]) <= 4, "now and then the minute changes meanwhile"
    with database.read() as session:
        runs = session.scalars(select(ScheduledRun)).all()
        assert len({run.audit_id for run in runs} - {None}) == len(runs)
        assert {run.audit_id for run in runs} == set(session.scalars(select(Audit.id))), "no audit without its run"
        expanding = session.scalars(select(Job.audit_id).where(Job.kind == JobKind.EXPAND))
        assert Counter(expanding) == Counter(run.audit_id for run in runs), "one job expands each"
        for schedule in session.scalars(select(Schedule)):
            assert schedule.next_due_at > max(ran[schedule.id])


def test_a_due_audit_rings_for_its_jobs(settings, database, redis_url):
    import redis

    add(database, missed="latest", minutes=1)
    with (
        redis.Redis.from_url(redis_url) as client,
        schedulers(settings.model_copy(update={"broker_url": redis_url}), 2),
    ):
        deadline = time.monotonic() + WAIT_S
        while client.llen("cpu") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        messages = client.lrange("cpu", 0, -1)
    with database.read() as session:
        ready = session.scalars(select(Job.id).where(Job.kind == JobKind.CATALOG)).all()
    assert sorted(any(str(job) in message.decode() for message in messages) for job in ready) == [True, True]
