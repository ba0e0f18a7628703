from datetime import timedelta

import pytest
from sqlalchemy import update

from app.db.clock import now
from app.db.tables import Comparison, Job
from app.domain.ids import new_id
from app.domain.plan import JobSpec
from app.domain.states import JobKind
from workers.files import Attempt, Scratch
from workers.reaper import Reaper


@pytest.fixture
def reaper(quick, database):
    return Reaper(quick, database)


def expire(database, job_id, **values):
    with database.write() as session:
        past = now() - timedelta(seconds=1)
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=past, **values))


def test_a_lost_job_is_queued_again_and_its_leftovers_removed(  # noqa: PLR0917
    reaper, supervisor, inspect_job, job, quick, database
):
    lost, kept = inspect_job("tiny"), inspect_job("wide")
    folders = [Scratch(quick.data_dir).make(Attempt(item, supervisor.claim(item).attempt)) for item in (lost, kept)]
    expire(database, lost)
    assert reaper.look()
    assert [job(item).state for item in (lost, kept)] == ["queued", "running"]
    assert [folder.exists() for folder in folders] == [False, True]


def test_a_job_lost_too_often_fails_with_what_it_would_have_ended(reaper, supervisor, add, job, database):
    comparison_id = new_id()
    with database.write() as session:
        session.add(Comparison(id=comparison_id, state="queued", a_ref="x:a", b_ref="x:b", scope={}))
    (job_id,) = add(JobSpec("compare", JobKind.COMPARE, {"comparison_id": str(comparison_id)}))
    assert supervisor.claim(job_id)
    expire(database, job_id, spent=2)
    assert reaper.look()
    assert (job(job_id).state, job(job_id).failure_class) == ("failed", "lost")
    with database.read() as session:
        row = session.get_one(Comparison, comparison_id)
    assert (row.state, row.error["code"]) == ("failed", "worker-lost")


def test_reapers_take_turns(reaper, quick, database):
    with reaper._alone() as first:
        assert first
        assert not Reaper(quick, database).look()
    assert Reaper(quick, database).look()


def test_unclaimed_jobs_are_rung_for_once_a_lease(quick, database, redis_url, inspect_job):
    import redis

    job_id = inspect_job("tiny")
    reaper = Reaper(quick.model_copy(update={"broker_url": redis_url}), database)
    reaper.look()
    reaper.look()
    with redis.Redis.from_url(redis_url) as client:
        messages = client.lrange("cpu", 0, -1)
    assert len(messages) == 1
    assert str(job_id).encode() in messages[0]
