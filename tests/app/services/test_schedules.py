from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select, update

from app.db import schedules as rows
from app.db.paging import Selection
from app.db.schedule_tables import Schedule, ScheduledRun
from app.db.tables import Audit, Job
from app.services import audits, schedules
from app.services.submission import Caller
from workers.scheduler import Scheduler

ROOT = Path(__file__).parents[3]
REQUEST = {"zoos": ["torchvision", "keras"], "models": ["resnet50"], "weights": "none", "dimensions": ["architecture"]}
NIGHT = datetime(2026, 5, 1, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def make(database, settings):
    """Make a schedule; return its id."""

    def made(cron="0 * * * *", *, next_due=NIGHT, **changed):
        request = {"name": "s", "cron": cron, "time_zone": "UTC", "missed": "latest", "enabled": True}
        with database.write() as session:
            added = schedules.create(session, settings, request | {"request": REQUEST} | changed, Caller())
            session.execute(update(Schedule).where(Schedule.name == added["name"]).values(next_due_at=next_due))
            return rows.LISTED.page(session, Selection(limit=1)).items[0].id

    return made


@pytest.fixture
def look(database, settings):
    """Deal with a schedule as a scheduler does at a time."""

    def looked(schedule_id, at):
        with database.write() as session:
            return schedules.submit_due(session, settings, schedule_id, at)

    return looked


@pytest.fixture
def end(database):
    """End an audit."""

    def ended(audit_id):
        with database.write() as session:
            audits.cancel(session, audit_id)

    return ended


@pytest.fixture
def next_due(database):
    def read(schedule_id):
        with database.read() as session:
            return session.get_one(Schedule, schedule_id).next_due_at

    return read


def count(database, table):
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table))


def test_the_database_says_what_time_it_is(database):
    with database.read() as session:
        found = rows.clock(session)
    assert found.tzinfo is UTC
    assert abs(found - datetime.now(UTC)) < timedelta(seconds=10)


def test_a_due_time_runs_once(database, make, look, next_due):
    schedule = make()
    run = look(schedule, NIGHT + timedelta(seconds=1))
    assert (run.due_at, run.error) == (NIGHT, None)
    assert sum(map(len, run.ring.values())) == 2, "the catalogs of both zoos may be read at once"
    assert next_due(schedule) == NIGHT + HOUR
    with database.write() as session:
        session.execute(update(Schedule).values(next_due_at=NIGHT))
        audits.cancel(session, run.audit_id)
    assert look(schedule, NIGHT + timedelta(seconds=2)) is None, "the row of the due time is there already"
    assert (count(database, ScheduledRun), count(database, Audit)) == (1, 1)
    assert next_due(schedule) == NIGHT + HOUR


def test_nothing_is_due_before_its_time_or_while_disabled(make, look):
    assert look(make(), NIGHT - timedelta(seconds=1)) is None
    assert look(make(name="off", next_due=None), NIGHT) is None


def test_an_audit_that_still_runs_delays_the_next(make, look, end, next_due):
    schedule = make()
    first = look(schedule, NIGHT)
    late = NIGHT + 5 * HOUR + timedelta(minutes=30)
    assert look(schedule, late) is None
    assert next_due(schedule) == NIGHT + HOUR, "it waits"
    end(first.audit_id)
    assert look(schedule, late).due_at == NIGHT + 5 * HOUR, "the latest of those missed"
    assert next_due(schedule) == NIGHT + 6 * HOUR


def test_missed_times_are_passed_over_when_the_schedule_says_so(make, look, next_due):
    schedule = make(missed="skip")
    assert look(schedule, NIGHT + 5 * HOUR + timedelta(minutes=30)) is None
    assert next_due(schedule) == NIGHT + 6 * HOUR
    assert look(schedule, NIGHT + 6 * HOUR).due_at == NIGHT + 6 * HOUR


def test_missed_times_are_caught_up_with_one_after_the_other(make, look, end, next_due):
    schedule, late, ran = make(missed="all"), NIGHT + 3 * HOUR + timedelta(minutes=30), []
    while run := look(schedule, late):
        ran.append(run.due_at)
        assert look(schedule, late) is None, "one at a time"
        end(run.audit_id)
    assert ran == [NIGHT, NIGHT + HOUR, NIGHT + 2 * HOUR, NIGHT + 3 * HOUR]
    assert next_due(schedule) == NIGHT + 4 * HOUR


def test_the_odd_days_of_a_time_zone_have_one_run_each(make, look, end):
    def berlin(month, day, hour):
        return datetime(2026, month, day, hour, tzinfo=UTC)

    schedule = make("30 2 * * *", time_zone="Europe/Berlin", next_due=berlin(3, 27, 1) + HOUR / 2)
    for first, last in ((berlin(3, 27, 0), berlin(3, 31, 0)), (berlin(10, 24, 0), berlin(10, 27, 0))):
        at, ran = first, []
        while at < last:
            if run := look(schedule, at):
                ran.append(run.due_at)
                end(run.audit_id)
            at += HOUR / 4
        days = [time.astimezone(ZoneInfo("Europe/Berlin")).day for time in ran]
        assert days == sorted(set(days)), "no day twice"
        assert len(days) >= 3


def test_an_audit_that_is_refused_is_a_run_with_the_reason(database, make, look):
    schedule = make()
    with database.write() as session:
        session.execute(update(Schedule).values(request={**REQUEST, "zoos": ["torchvision", "gone"]}))
    run = look(schedule, NIGHT)
    assert (run.audit_id, run.error["code"]) == (None, "unknown-zoo")
    with database.read() as session:
        shown = schedules.show(session, schedule)["last_run"]
    assert "no zoo 'gone'" in shown["error"]["message"]
    assert (shown["audit_id"], shown["state"], count(database, Job)) == (None, None, 0)
    assert look(schedule, NIGHT + HOUR).due_at == NIGHT + HOUR, "a refused run does not stand in the way"


def test_one_schedule_that_cannot_be_dealt_with_stops_no_other(database, settings, make):
    make(name="broken")
    make(name="fine")
    with database.write() as session:
        session.execute(update(Schedule).where(Schedule.name == "broken").values(time_zone="Gone/Zone"))
    Scheduler(settings, database).look()
    with database.read() as session:
        names = session.scalars(select(Schedule.name).join(ScheduledRun, ScheduledRun.schedule_id == Schedule.id))
        assert list(names) == ["fine"]


KILLED = """
import os, signal, sys, uuid
from app.db import schedules as rows
from app.db.session import Database
from app.services import schedules
from app.settings import Settings
settings = Settings()
with Database(settings.url).write() as session:
    run = schedules.submit_due(session, settings, uuid.UUID(sys.argv[1]), rows.clock(session))
    assert run.audit_id
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_scheduler_killed_before_its_commit_leaves_nothing_and_the_next_one_runs(database, settings, make):
    schedule = make()
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "ZOOAUDIT_DATABASE_URL": settings.url,
        "ZOOAUDIT_DATA_DIR": str(settings.data_dir),
    }
    killed = subprocess.run([sys.executable, "-c", KILLED, str(schedule)], env=environment, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert (count(database, ScheduledRun), count(database, Audit), count(database, Job)) == (0, 0, 0)
    Scheduler(settings, database).look()
    assert (count(database, ScheduledRun), count(database, Audit)) == (1, 1)
