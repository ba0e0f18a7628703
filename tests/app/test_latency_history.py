"""A listing's latency over time: stored by sessions, listed over HTTP, shown on the command line."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from rich.console import Console

from app import render_history
from app.db import jobs, latency_runs
from app.db.latency_runs import Timed
from app.db.paging import Selection
from app.db.tables import Artifact, Measurement
from app.domain.plan import JobSpec
from app.domain.states import JobKind
from app.main import create_app
from app.services import latency_history

REF = "torchvision:resnet50@none"
START = datetime(2026, 1, 1, tzinfo=UTC)
SHA = {"artifact": "a" * 64, "bytes": "b" * 64, "hardware": "c" * 64, "other": "d" * 64}


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def timed(database, day, *medians, artifact="artifact", hardware="hardware", torch="2.14", void=False, same=False):
    """Store a session of one listing, or of one against itself, at as many operating points as medians are given."""
    with database.write() as session:
        if session.get(Artifact, SHA[artifact]) is None:
            session.add(Artifact(sha256=SHA[artifact], bytes=1, format="onnx"))
        (job_id,) = jobs.add(session, [JobSpec("l", JobKind.LATENCY, {})]).values()
        entries = [{"ref": REF, "p90_ms": None, "samples": 100}] * (1 + same)
        points = [
            {
                "runtime": "torch",
                "device": "cpu",
                "batch": batch,
                "threads": 1,
                "identity": {"runtime": "torch"} | ({"batch": batch} if batch > 1 else {}),
                "settings": {"mode": "eager"},
                "entries": [entry | {"median_ms": median} for entry in entries],
                "blocks": 6,
                "busy_beside": 0.5,
                "void": void,
            }
            for batch, median in enumerate(medians, start=1)
        ]
        machine = {"hardware": SHA[hardware], "fingerprint": SHA["bytes"], "line": "AMD EPYC, 2 of 2 cores"}
        machine |= {"kernel": "Linux 6", "python": "3.11", "packages": {"torch": torch}}
        measured = Measurement(
            kind="latency",
            key="k",
            subject=REF,
            protocol={},
            environment={},
            values={"operating_points": points, "machine": machine | {"environment": {}, "gpu_software": None}},
            files={},
            job_id=job_id,
            created_at=START + timedelta(days=day),
        )
        session.add(measured)
        session.flush()
        latency_runs.keep(session, measured, {REF: Timed(REF, SHA[artifact])})


def found(database, settings, **wanted):
    with database.read() as session:
        return latency_history.find(session, settings, REF, Selection(wanted, limit=200))["items"]


def test_runs_are_listed_newest_first_and_paged(client, database):
    for day in range(5):
        timed(database, day, 20.0 + day, 80.0)
    reply = client.get("/v1/latency/history", params={"ref": REF, "limit": 4}).json()
    first = reply["items"][0]
    assert [item["created_at"][:10] for item in reply["items"]] == [
        "2026-01-05",
        "2026-01-05",
        "2026-01-04",
        "2026-01-04",
    ]
    assert first["operating_point"] in (
        {"runtime": "torch", "device": "cpu", "batch": 1, "threads": 1},
        {"runtime": "torch", "device": "cpu", "batch": 2, "threads": 1},
    )
    seen = reply["items"]
    while cursor := reply["next_cursor"]:
        reply = client.get("/v1/latency/history", params={"ref": REF, "limit": 4, "cursor": cursor}).json()
        seen += reply["items"]
    assert len({item["id"] for item in seen}) == len(seen) == 10
    assert {item["step"] for item in seen} == {None}
    key = first["point_key"]
    assert len(client.get("/v1/latency/history", params={"ref": REF, "point": key[:8]}).json()["items"]) == 5
    assert (
        len(client.get("/v1/latency/history", params={"ref": REF, "fingerprint": "hhhh"}).json().get("items", [])) == 0
    )
    since = {"ref": REF, "since": "2026-01-04T00:00:00Z"}
    assert len(client.get("/v1/latency/history", params=since).json()["items"]) == 4
    assert client.get("/v1/latency/history", params=since | {"since": "2026-01-04T00:00:00"}).status_code == 422


def test_what_was_never_timed_says_so(client, database):
    timed(database, 0, 20.0)
    reply = client.get("/v1/latency/history", params={"ref": "torchvision:resnet5@none"})
    assert reply.status_code == 404
    assert f"Did you mean {REF}?" in reply.json()["detail"]
    assert client.get("/v1/latency/history", params={"ref": "nowhere:x"}).status_code in {404, 422}
    assert client.get("/v1/latency/history").status_code == 422


def test_a_listing_against_itself_is_one_run(database, settings):
    timed(database, 0, 20.0, same=True)
    assert len(found(database, settings)) == 1


def test_a_step_is_marked_with_what_changed_with_it(database, settings):
    for day in range(12):
        timed(database, day, 20.0 + 0.1 * (day % 3))
    for day in range(12, 15):
        timed(database, day, 23.0, torch="2.15", artifact="bytes")
    marked = [item for item in found(database, settings) if item["step"]]
    (run,) = marked
    assert run["created_at"].startswith("2026-01-13")
    step = run["step"]
    assert step["state"] == "confirmed"
    assert step["ratio"] == pytest.approx(23 / 20.1, rel=0.01)
    assert step["changed"] == [
        {"what": "artifact", "before": SHA["artifact"], "after": SHA["bytes"]},
        {"what": "packages.torch", "before": "2.14", "after": "2.15"},
    ]
    # The mark does not depend on what part of the history is asked for.
    (again,) = [item for item in found(database, settings, since=START + timedelta(days=12)) if item["step"]]
    assert again["step"] == step


def test_a_lone_outlier_is_unconfirmed(database, settings):
    for day in range(12):
        timed(database, day, 20.0 if day != 10 else 31.0)
    (run,) = [item for item in found(database, settings) if item["step"]]
    assert run["step"]["state"] == "unconfirmed"
    assert run["step"]["before_ms"] == pytest.approx(20.0)


def test_void_runs_and_other_machines_count_for_nothing(database, settings):
    for day in range(12):
        timed(database, day, 20.0)
    for day in range(12, 16):
        timed(database, day, 40.0, void=True)
        timed(database, day, 40.0, hardware="other")
    items = found(database, settings)
    assert [item for item in items if item["step"]] == []
    assert sum(item["void"] for item in items) == 4
    assert len(found(database, settings, fingerprint=SHA["other"][:6])) == 4


def test_operating_points_are_told_apart_by_whatever_they_have(database, settings):
    for day in range(12):
        timed(database, day, 20.0, 80.0)
    items = found(database, settings)
    assert len({item["point_key"] for item in items}) == 2
    assert [item for item in items if item["step"]] == []


def test_the_table_shows_machine_bars_and_steps(database, settings):
    for day in range(12):
        timed(database, day, 20.0)
    for day in range(12, 15):
        timed(database, day, 23.0, torch="2.15")
    timed(database, 15, 31.0, void=True)
    stream = io.StringIO()
    Console(file=stream, width=160, color_system=None).print(render_history.history(REF, found(database, settings)))
    shown = stream.getvalue()
    assert f"Latency of {REF} over time" in shown
    assert "torch cpu, batch 1, 1 thread(s)" in shown
    assert "▁" * 12 + "▆▆▆" in shown
    assert "15 + 1 void" in shown
    assert "machine cccccccccccc: AMD EPYC, 2 of 2 cores" in shown
    assert "step 2026-01-13 00:00, torch cpu, batch 1, 1 thread(s): 20.0 → 23.0 ms (+15.00 %)" in shown
    assert "with it changed: packages.torch 2.14 → 2.15" in shown


def test_bars_begin_at_the_smallest_and_small_changes_look_small():
    assert render_history.bars([1.0, 2.0, 3.0]) == "▁▅█"
    assert render_history.bars([5.0, 5.05]) == "▁▁"
    assert render_history.bars([]) == ""
    assert len(render_history.bars([float(value) for value in range(100)])) == 30
