from __future__ import annotations

from app.db import jobs, progress
from app.domain.plan import JobSpec
from app.domain.states import FailureClass, JobKind

SPECS = [
    JobSpec("inspect", JobKind.INSPECT, {"listing": {"ref": "timm:resnet50@a1_in1k"}}),
    JobSpec("compare", JobKind.COMPARE, {}, needs={"a.inspect": "inspect"}),
]


def test_progress_says_what_runs_and_then_why_it_is_tried_again(database):
    with database.write() as session:
        ids = jobs.add(session, SPECS)
    claim_args = {"worker": "w", "places": {"cpu": "h"}, "lease_s": 30.0}
    with database.write() as session:
        claim = jobs.claim(session, ids["inspect"], **claim_args)
        jobs.heartbeat(session, claim, lease_s=30.0, progress={"done": 1, "total": 3, "message": "exporting"})
        shown = progress.progress(session, [ids["compare"]])
    assert shown == {"done": 0, "total": 2, "message": "inspect timm:resnet50@a1_in1k exporting"}
    with database.write() as session:
        error = {"class": "transient", "code": "weights-not-fetched", "message": "No network."}
        jobs.fail(session, claim, FailureClass.TRANSIENT, error, max_attempts=3)
        shown = progress.progress(session, [ids["compare"]])
    assert shown["message"] == "inspect timm:resnet50@a1_in1k is tried again: No network."
