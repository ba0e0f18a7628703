from __future__ import annotations

import threading
import uuid

import pytest
from sqlalchemy import text

from app.db import jobs
from app.domain.plan import JobSpec
from app.domain.states import JobKind
from app.services import audits
from workers.engines import EngineChoice
from workers.lease import Lease
from workers.stopping import Stop
from workers.supervisor import Supervisor


@pytest.fixture
def supervisor(settings, database):
    """One that runs jobs without the engine, which is never started."""
    return Supervisor(settings, database, EngineChoice(), Stop())


def expanding(database, settings):
    """Claim the expand job of an audit whose catalogs could not be read."""
    with database.write() as session:
        submitted = audits.submit(session, settings, {"zoos": ["timm", "keras"]})
        session.execute(text("UPDATE jobs SET state = 'failed' WHERE kind = 'catalog'"))
    return submitted.id


def test_every_line_of_a_job_says_which(supervisor, database, settings, lines):
    audit = expanding(database, settings)
    claimed = supervisor.claim_next("cpu")
    supervisor.run(claimed)
    told = lines()
    assert [line["event"] for line in told] == ["job claimed", "job ended"]
    about = {"job": str(claimed.id), "kind": "expand", "attempt": 1, "audit": str(audit)}
    assert all(about.items() <= line.items() for line in told)


def test_no_line_after_a_job_says_that_it_is_about_it(supervisor, database, settings, lines):
    expanding(database, settings)
    supervisor.run(supervisor.claim_next("cpu"))
    with database.write() as session:
        jobs.add(session, [JobSpec("x", JobKind.EXPAND, {"audit_id": str(uuid.uuid4())})])
    second = supervisor.claim_next("cpu")
    supervisor.run(second)
    about = [line["job"] for line in lines()]
    assert about[2:] == [str(second.id)] * len(about[2:])
    assert len(about) > 2


def test_the_heartbeats_thread_says_which_job_it_is_about(supervisor, database, settings, lines):
    expanding(database, settings)
    claimed = supervisor.claim_next("cpu")
    seen = threading.Event()

    class Failing(Lease):
        """One that is asked to beat at once, of a database that has gone."""

        def _beat(self):
            seen.set()
            with database.write() as session:
                session.execute(text("SELECT * FROM gone"))

    def _run(claim):
        with Failing(database, claim, lease_s=0.1, stop=Stop()):
            assert seen.wait(10)

    supervisor._run = _run
    supervisor.run(claimed)
    (failed,) = {line["job"] for line in lines() if line["event"] == "heartbeat failed"}
    assert failed == str(claimed.id)
