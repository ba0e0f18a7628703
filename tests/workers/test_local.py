from __future__ import annotations

import threading
import time
import uuid

from app.domain.plan import JobSpec
from app.domain.states import JobKind
from workers.local import LocalWorker


def test_an_idle_worker_notices_a_job_long_before_it_looks_anyway(quick, database, add, job):
    worker = LocalWorker(quick.model_copy(update={"poll_s": 60.0}), database, slots=2)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        for _ in range(2):
            time.sleep(1)  # until both slots are idle
            (added,) = add(JobSpec("x", JobKind.EXPAND, {"audit_id": str(uuid.uuid4())}))
            until = time.monotonic() + 20
            while job(added).started_at is None:
                assert time.monotonic() < until, "nobody came for it"
                time.sleep(0.05)
    finally:
        worker.stop.ask(0.0)
        thread.join(timeout=10)
    assert not thread.is_alive()
