"""One exclusive job at a time on a device, whoever claims, from wherever, and however a holder ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from app.db import clock, jobs, tables
from app.db.clock import now
from app.db.tables import Job
from app.domain.plan import JobSpec
from app.domain.states import JobKind, State

ROOT = Path(__file__).parents[3]


def timing(handle, **values):
    return JobSpec(handle, JobKind.LATENCY, {"n": handle}, exclusive=True, priority=2, **values)


def add(database, *specs):
    with database.write() as session:
        return jobs.add(session, specs)


def claim(database, *, cpu="m1", gpu="GPU-1", device="cpu", lease_s=30.0):
    with database.write() as session:
        places = {"cpu": cpu, "gpu": gpu}
        return jobs.claim_next(session, worker="w", device=device, places=places, lease_s=lease_s)


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_one_machine_runs_one_and_another_is_not_blocked(database):
    add(database, timing("a"), timing("b"), timing("c"))
    assert claim(database).payload["n"] == "a"
    assert claim(database) is None
    assert claim(database, cpu="m2").payload["n"] == "b"


def test_a_gpu_is_a_device_of_its_own_wherever_it_is_seen_from(database):
    add(database, timing("a"), *(timing(name, device="gpu") for name in "bcd"))
    assert claim(database).payload["n"] == "a"
    assert claim(database, device="gpu").payload["n"] == "b"
    assert claim(database, device="gpu", cpu="another container's machine") is None
    assert claim(database, device="gpu", gpu="GPU-2").payload["n"] == "c"


def test_what_waits_for_the_device_hides_nothing_behind_it(database):
    add(database, *(timing(str(number)) for number in range(30)), JobSpec("x", JobKind.INSPECT, {"n": "x"}))
    assert claim(database).payload["n"] == "0"
    assert claim(database).payload["n"] == "x"
    assert claim(database) is None


@pytest.mark.parametrize("end", ["succeed", "give_back", "cancel", "fail"])
def test_every_end_frees_the_device(database, end):
    add(database, timing("a"), timing("b"))
    held = claim(database)
    with database.write() as session:
        if end == "succeed":
            jobs.succeed(session, held)
        elif end == "give_back":
            jobs.give_back(session, held)
        elif end == "cancel":
            jobs.finish_cancelled(session, held)
        else:
            jobs.fail(session, held, "transient", {"code": "x"}, max_attempts=3)
    assert claim(database) is not None


HOLDER = """
import sys, time
from app.db import jobs
from app.db.session import Database
database = Database(sys.argv[1])
with database.write() as session:
    held = jobs.claim_next(session, worker="w", device="cpu", places={"cpu": "m1"}, lease_s=1.0)
print(held.payload["n"], flush=True)
time.sleep(600)
"""


def test_a_killed_holder_frees_the_device_when_its_lease_ends(database, database_url):
    add(database, timing("a"), timing("b"))
    holder = start(HOLDER, database_url)
    assert holder.stdout.readline().strip() == "a"
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    assert claim(database) is None
    deadline = time.monotonic() + 30
    while not (recovered := _recover(database)):
        assert claim(database) is None, "the device stays taken until the reaper has looked"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(recovered) == 1
    assert claim(database).payload["n"] == "b", "the lost job waits for its back-off"


def _recover(database):
    with database.write() as session:
        return jobs.recover(session, max_attempts=3, back_off_s=5.0, longest_s=15.0)[0]


RACER = """
import sys, time
from sqlalchemy import func, select
from app.db import jobs
from app.db.session import Database
from app.db.tables import Job
database, place = Database(sys.argv[1]), sys.argv[2]
sys.stdin.readline()
while True:
    with database.write() as session:
        claim = jobs.claim_next(session, worker="w", device="cpu", places={"cpu": place}, lease_s=60)
    if claim is None:
        with database.read() as session:
            if not session.scalar(select(func.count()).where(Job.state.in_(["queued", "running"]))):
                break
        time.sleep(0.002)
        continue
    with database.read() as session:
        beside = session.scalar(select(func.count()).where(Job.state == "running", Job.exclusive_on == place))
    time.sleep(0.005)
    print(claim.payload["n"], beside, flush=True)
    with database.write() as session:
        jobs.succeed(session, claim)
"""


def test_many_claimers_at_once_never_share_a_device(database, database_url):
    names = [str(number) for number in range(16)]
    add(database, *(timing(name) for name in names))
    racers = [start(RACER, database_url, place) for place in ("m1", "m2") for _ in range(3)]
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    lines = [line.split() for racer in racers for line in racer.communicate(timeout=120)[0].splitlines()]
    assert [racer.returncode for racer in racers] == [0] * len(racers)
    assert Counter(name for name, _ in lines) == Counter(names), "each ran once"
    assert {beside for _, beside in lines} == {"1"}


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
@pytest.mark.parametrize("wrong", [timedelta(hours=-1), timedelta(hours=1)])
def test_a_worker_whose_clock_is_wrong_holds_its_lease_all_the_same(database, monkeypatch, wrong):
    for module in (clock, tables):
        monkeypatch.setattr(module, "now", lambda: now() + wrong)
    ids = add(database, timing("a"), timing("b"))
    held = claim(database)
    assert held is not None, "due at once, whoever's clock is ahead"
    with database.write() as session:
        jobs.heartbeat(session, held, lease_s=30, progress=None)
    monkeypatch.undo()
    assert _recover(database) == []
    with database.read() as session:
        left = session.get_one(Job, ids["a"]).lease_until - now()
    assert timedelta(seconds=20) < left <= timedelta(seconds=31)


def test_the_device_is_free_for_rows_of_any_other_state(database):
    add(database, timing("a"), timing("b"))
    claim(database)
    with database.write() as session:
        session.execute(update(Job).where(Job.state == State.RUNNING).values(state=State.SUCCEEDED))
    assert claim(database).payload["n"] == "b"
    with database.read() as session:
        assert session.scalar(select(func.count()).where(Job.exclusive_on == "m1")) == 2
