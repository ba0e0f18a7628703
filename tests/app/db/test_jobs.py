from __future__ import annotations

import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, func, select, text, update

from app.db import job_graph, jobs, rings
from app.db.clock import now
from app.db.tables import Job, JobNeed
from app.domain.plan import JobSpec
from app.domain.states import FailureClass, JobKind, State

ROOT = Path(__file__).parents[3]
WHO = {"worker": "w1", "device": "cpu", "places": {"cpu": "h1"}, "lease_s": 30.0}


def spec(handle="one", **values):
    return JobSpec(handle, values.pop("kind", JobKind.INSPECT), {"n": handle}, **values)


def add(database, *specs):
    with database.write() as session:
        return jobs.add(session, specs)


def claim(database, **changed):
    with database.write() as session:
        return jobs.claim_next(session, **(WHO | changed))


def state(database, job_id):
    with database.read() as session:
        return session.get_one(Job, job_id).state


def recover(session, *, max_attempts):
    return jobs.recover(session, max_attempts=max_attempts, back_off_s=5.0, longest_s=15.0)


def expire(database):
    with database.write() as session:
        session.execute(update(Job).values(lease_until=now() - timedelta(seconds=1)))


def test_a_job_is_claimed_once_and_ends_once(database):
    ids = add(database, spec())
    claimed = claim(database)
    assert (claimed.id, claimed.attempt, claimed.payload) == (ids["one"], 1, {"n": "one"})
    assert claim(database) is None
    with database.write() as session:
        jobs.succeed(session, claimed)
    assert state(database, claimed.id) == State.SUCCEEDED
    with database.write() as session, pytest.raises(jobs.LeaseLostError):
        jobs.succeed(session, claimed)


def test_the_most_urgent_goes_first_and_needs_are_waited_for(database):
    add(database, spec("a"), spec("b", priority=5), spec("c", priority=9, needs={"x": "a"}))
    first, second = claim(database), claim(database)
    assert [first.payload["n"], second.payload["n"]] == ["b", "a"]
    assert claim(database) is None
    with database.write() as session:
        jobs.fail(session, second, FailureClass.SUBJECT, {"code": "x"}, max_attempts=3)
    assert claim(database).payload["n"] == "c", "a need that ended badly has ended"


def test_a_lost_lease_is_fenced_off(database):
    add(database, spec())
    old = claim(database)
    expire(database)
    with database.write() as session:
        assert recover(session, max_attempts=3) == ([old.id], [])
        session.execute(update(Job).values(available_at=now()))
    new = claim(database)
    assert new.attempt == 2
    for write in (
        lambda session: jobs.succeed(session, old),
        lambda session: jobs.heartbeat(session, old, lease_s=30, progress=None),
        lambda session: jobs.take_to_finish(session, old),
        lambda session: jobs.fail(session, old, FailureClass.TRANSIENT, {}, max_attempts=3),
        lambda session: jobs.give_back(session, old),
        lambda session: jobs.finish_cancelled(session, old),
    ):
        with database.write() as session, pytest.raises(jobs.LeaseLostError):
            write(session)
    with database.write() as session:
        jobs.succeed(session, new)


def test_a_job_that_divides_itself_comes_back_with_what_its_parts_left(database):
    add(database, spec("whole"))
    whole = claim(database)
    with database.write() as session:
        parts = jobs.add(session, [spec("first"), spec("second")])
        jobs.wait_for(session, whole, {"shard 0": parts["first"], "shard 1": parts["second"]})
    assert state(database, whole.id) == State.QUEUED
    with database.write() as session, pytest.raises(jobs.LeaseLostError):
        jobs.wait_for(session, whole, {})
    first, second = claim(database), claim(database)
    assert {first.id, second.id} == set(parts.values())
    assert claim(database) is None
    with database.write() as session:
        jobs.succeed(session, first)
    assert claim(database) is None, "the other part has not ended"
    with database.write() as session:
        jobs.fail(session, second, FailureClass.SUBJECT, {"code": "x"}, max_attempts=3)
        assert rings.released(session, second) == {"cpu": [whole.id]}
    again = claim(database)
    assert (again.id, again.attempt) == (whole.id, 2)
    with database.read() as session:
        needs = jobs.needs(session, whole.id)
        assert {role: job.id for role, job in needs.items()} == {"shard 0": parts["first"], "shard 1": parts["second"]}
        assert {job.state for job in needs.values()} == {State.SUCCEEDED, State.FAILED}


def test_a_job_that_kills_its_workers_is_given_up(database):
    ids = add(database, spec())
    for _ in range(2):
        with database.write() as session:
            session.execute(update(Job).values(available_at=now()))
        assert claim(database)
        expire(database)
        with database.write() as session:
            requeued, failed = recover(session, max_attempts=2)
    assert (requeued, failed) == ([], [ids["one"]])
    with database.read() as session:
        job = session.get_one(Job, ids["one"])
        assert (job.state, job.failure_class, job.error["code"]) == ("failed", "lost", "worker-lost")


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)  # SQLite has one writer at a time
def test_a_job_that_is_being_ended_keeps_no_other_waiting(database):
    ids = add(database, spec(), spec("two"))
    ending, lost = claim(database), claim(database)
    expire(database)
    with database.write() as slow:
        jobs.succeed(slow, ending)
        with database.write() as session:
            session.execute(text("SET LOCAL lock_timeout = '5s'"))
            assert recover(session, max_attempts=3) == ([lost.id], [])
    assert {name: state(database, ids[name]) for name in ids} == {"one": State.SUCCEEDED, "two": State.QUEUED}


def test_a_live_lease_is_left_alone(database):
    add(database, spec())
    claimed = claim(database)
    with database.write() as session:
        assert recover(session, max_attempts=3) == ([], [])
        assert jobs.heartbeat(session, claimed, lease_s=30, progress={"done": 1}) is False


def test_transient_failures_come_back_later(database):
    add(database, spec())
    claimed = claim(database)
    with database.write() as session:
        again = jobs.fail(session, claimed, FailureClass.TRANSIENT, {"code": "net"}, max_attempts=2)
    assert again is State.QUEUED
    assert claim(database) is None, "not before its back-off"
    with database.write() as session:
        session.execute(update(Job).values(available_at=now()))
    claimed = claim(database)
    with database.write() as session:
        assert jobs.fail(session, claimed, FailureClass.TRANSIENT, {}, max_attempts=2) is State.FAILED


def test_the_same_active_work_is_one_job(database):
    one = add(database, spec("x", work_key="k"))
    two = add(database, spec("y", work_key="k"))
    assert one["x"] == two["y"]
    claimed = claim(database)
    with database.write() as session:
        jobs.succeed(session, claimed)
    assert add(database, spec("z", work_key="k"))["z"] != one["x"]


def test_cancelling(database):
    ids = add(database, spec("a", work_key="k"), spec("b", priority=-1))
    claimed = claim(database)
    with database.write() as session:
        jobs.request_cancel(session, list(ids.values()))
    assert (state(database, ids["a"]), state(database, ids["b"])) == ("running", "cancelled")
    assert add(database, spec("again", work_key="k"))["again"] != ids["a"], "new work does not join a dying job"
    with database.write() as session:
        assert jobs.heartbeat(session, claimed, lease_s=30, progress=None) is True
        jobs.finish_cancelled(session, claimed)
    assert state(database, ids["a"]) == "cancelled"


def test_closure_holds_everything_needed(database):
    ids = add(database, spec("a"), spec("b", needs={"x": "a"}), spec("c", needs={"y": "b"}), spec("d"))
    with database.read() as session:
        assert {job.id for job in job_graph.closure(session, [ids["c"]])} == {ids["a"], ids["b"], ids["c"]}


RACER = """
import sys, uuid
from app.db import jobs, rings
from app.db.session import Database
database = Database(sys.argv[1])
sys.stdin.readline()
while True:
    with database.write() as session:
        claim = jobs.claim_next(session, worker="w", device="cpu", places={"cpu": sys.argv[2]}, lease_s=60)
    if claim is None:
        break
    print(claim.id, flush=True)
    with database.write() as session:
        jobs.succeed(session, claim)
"""


def test_two_processes_claim_each_job_once(database, database_url):
    ids = add(database, *(spec(str(number)) for number in range(60)))
    command = [sys.executable, "-c", RACER, database_url]
    racers = [
        subprocess.Popen(
            [*command, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for name in ("h1", "h2")
    ]
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    claimed = [uuid.UUID(line) for racer in racers for line in racer.communicate(timeout=60)[0].split()]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert sorted(claimed) == sorted(ids.values())
    with database.read() as session:
        assert session.scalar(select(func.max(Job.attempt))) == 1


def test_jobs_are_added_in_a_statement_for_all_of_them(database):
    ran = []
    event.listen(database.engine, "before_cursor_execute", lambda _c, _k, said, *_: ran.append(said))
    ids = add(database, *(spec(str(n), work_key=f"k{n % 3}", needs={"x": str(n - 1)} if n else {}) for n in range(9)))
    assert len(set(ids.values())) == 3, "one for each key"
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(JobNeed)) == 2, "who joins a job adds no needs to it"
    added = [said for said in ran if said.startswith("INSERT INTO jobs")]
    assert len(added) == 1


def test_two_who_add_the_same_work_in_opposite_order_share_it(database):
    def both(order):
        with database.write() as session:
            return jobs.add(session, [spec(key, work_key=key) for key in order])

    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            one, two = pool.map(both, ("ab", "ba"))
            assert one == two
            with database.write() as session:
                session.execute(update(Job).values(state=State.SUCCEEDED))
