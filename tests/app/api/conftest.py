"""A database with one of everything, and the real API on it: uvicorn on a port of its own."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import uvicorn

from app.db import audit_rows, comparisons, listings
from app.db.tables import Comparison
from app.domain import answer
from app.domain.policies import POLICIES, Dimension
from app.main import create_app
from app.services import audits, schedules, vettings
from app.services import comparisons as comparison_service
from app.services.submission import Caller

PAIR = {"a": "torchvision:resnet50@none", "b": "timm:resnet50@none"}


def _listing(zoo, name, tag):
    return {
        "zoo": zoo,
        "name": name,
        "weights": tag,
        "ref": f"{zoo}:{name}@{tag}",
        "architecture": name,
        "default": tag == "V1",
        "label_space": "imagenet-1k",
        "classes": 1000,
        "contract": None,
        "claims": [],
        "licence": None,
        "runtimes": ["torch"],
    }


def _side(ref):
    inspected = {
        "listing": {"ref": ref, "architecture": "resnet50", "label_space": "imagenet-1k", "contract": None},
        "artifact": {"sha256": "a" * 64, "bytes": 102_000_000, "format": "onnx"},
        "input_shape": [1, 3, 224, 224],
        "output_shape": [1, 1000],
        "contract": None,
    }
    return answer.Side(ref, inspected, None, [])


def _measured(ratio):
    """Return what a comparison measures: the same graph, an accuracy within its margin, A slower by a ratio."""
    counts = {"nodes": 122, "parameters": 25_557_032, "flops": 4_089_184_256}
    top1 = {"a": 0.801, "b": 0.803, "difference": -0.002, "p_value": 0.2, "ci95": [-0.004, 0.0], "ci90": [-0.0035, 0.0]}
    top1 |= {f"{side}_ci95": [top1[side] - 0.003, top1[side] + 0.003] for side in "ab"}
    ledger = {
        "both_right": 39_000,
        "a_only": 1050,
        "b_only": 1150,
        "both_wrong_same": 6000,
        "both_wrong_different": 2800,
    }
    agreement = {"agreement": 0.97, "agreement_ci95": [0.968, 0.972], "ledger": ledger, "discordant": 0.044}
    point = {"runtime": "onnxruntime", "device": "cpu", "batch": 1, "threads": 1}
    times = {"a": {"median_ms": 20.0 * ratio}, "b": {"median_ms": 20.0}, "ratio": ratio}
    return {
        "architecture": {"verdict": "identical", "a": counts, "b": counts, "differences": []},
        "accuracy": {"dataset": "imagenet-val", "items": 50_000, "top1": top1, "top5": None, **agreement},
        "latency": {"operating_points": [{**point, **times, "ci95": [ratio - 0.02, ratio + 0.02]}], "machine": {}},
    }


def seed(settings, database, *, nights=3):
    """Store catalogs, an audit for each night that has ended, a queued comparison and one of the rest; return ids."""
    with database.write() as session:
        for zoo in ("torchvision", "timm"):
            rows = [_listing(zoo, name, tag) for name in ("resnet50", "vgg16") for tag in ("V1", "none")]
            listings.replace_catalog(session, zoo, "1", rows)
    ended = [_night(settings, database, night) for night in range(nights)]
    with database.write() as session:
        queued = comparison_service.submit(session, settings, PAIR).id
        vetted = {"comparison_id": str(ended[-1][1]), "policy": "drop-in-api"}
        vetting = vettings.submit(session, settings, vetted).id
        nightly = {"name": "nightly", "cron": "0 3 * * *", "time_zone": "UTC", "missed": "latest", "enabled": True}
        wanted = {"request": {"zoos": ["torchvision", "timm"], "weights": "none"}}
        schedule = schedules.create(session, settings, nightly | wanted, Caller())["id"]
        listing = listings.by_ref(session, PAIR["b"]).id
    return SimpleNamespace(
        audit_id=str(ended[-1][0]),
        comparison_id=str(ended[-1][1]),
        queued_id=str(queued),
        vetting_id=str(vetting),
        schedule_id=str(schedule),
        listing_id=str(listing),
    )


def _night(settings, database, night):
    with database.write() as session:
        audit_id = audits.submit(session, settings, {"zoos": ["torchvision", "timm"], "weights": "none"}).id
        submitted = comparison_service.submit(session, settings, PAIR)
        row = session.get_one(Comparison, submitted.id)
        row.audit_id, row.architecture = audit_id, "resnet50"
        session.flush()
        sides = (_side(PAIR["a"]), _side(PAIR["b"]))
        measured = _measured(1.0 + 0.1 * night)
        policy = POLICIES["default"]
        found = answer.build(*sides, measured=measured, errors={}, policy=policy, asked=tuple(Dimension))
        assert comparisons.succeed(session, submitted.id, found)
        audit_rows.conclude(session, audit_id)
    return audit_id, submitted.id


@contextmanager
def serving(settings):
    """Yield the address of the real API with these settings."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    config = uvicorn.Config(create_app(settings), port=port, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            threading.Event().wait(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def seeded(settings, database):
    """Return the ids of what ``seed`` has stored."""
    return seed(settings, database)


@pytest.fixture
def served(settings, seeded):
    """Yield the address of the real API on a seeded database, and the ids there."""
    with serving(settings) as address:
        yield SimpleNamespace(address=address, ids=seeded)


@pytest.fixture
def unknown_id():
    """Return an id that nothing has."""
    return str(uuid.uuid4())
