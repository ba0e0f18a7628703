from __future__ import annotations

import uuid
from hashlib import sha256

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text, update

from app.db import comparisons
from app.db.tables import Audit, Comparison, Job
from app.domain.answer import Answer
from app.domain.policies import Dimension
from app.domain.verdicts import Finding, Place, Severity, Verdict
from app.main import create_app
from workers.files import Attempt, FileStore

PAIR = {"a": "torchvision:resnet50@none", "b": "timm:resnet50@none"}


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings)) as opened:
        yield opened


@pytest.fixture
def compared(client, database):
    """Return the address of a comparison with an answer that has every kind of number."""
    where = client.post("/v1/comparisons", json=PAIR).headers["Location"]
    reply = client.get(where)
    assert not {"etag", "cache-control"} & set(reply.headers), "it still changes"
    assert client.get(where, headers={"If-None-Match": "*"}).status_code == 200
    found = Finding(
        Dimension.LATENCY, "m", 1.0, float("inf"), 0.5, (0.1, 0.9), 0.05, Place.OUTSIDE, Severity.CRITICAL, {}
    )
    answer = Answer(Verdict.NOT_INTERCHANGEABLE, [found], {"reason": "ä", "latency": {"x": float("nan")}})
    with database.write() as session:
        assert comparisons.succeed(session, uuid.UUID(where.rsplit("/", 1)[1]), answer)
    return where


def test_a_final_comparison_is_sent_once(client, compared):
    first = client.get(compared)
    tag = first.headers["etag"]
    assert tag == f'"{sha256(first.content).hexdigest()}"'
    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["content-type"] == "application/json"
    assert first.json()["findings"][0]["b"] == {"value": None, "kind": "+inf"}
    for same in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get(compared, headers={"If-None-Match": same})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), same
    for other in ('"other"', tag.strip('"'), "", tag[:-2] + '"'):
        again = client.get(compared, headers={"If-None-Match": other})
        assert (again.status_code, again.content) == (200, first.content), other


def test_the_tag_follows_what_is_shown(client, database, compared):
    tag = client.get(compared).headers["etag"]
    with database.write() as session:
        session.execute(update(Job).where(Job.kind == "inspect").values(state="succeeded"))
    changed = client.get(compared, headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["progress"]["done"]) == (200, 2)
    assert changed.headers["etag"] != tag


def test_an_audit_has_a_tag_once_it_has_ended(client, database):
    where = client.post("/v1/audits", json={"zoos": ["timm", "keras"]}).headers["Location"]
    open_ = client.get(where)
    assert "etag" not in open_.headers
    client.post(f"{where}/cancel")
    ended = client.get(where)
    assert ended.json()["state"] == "cancelled"
    tag = ended.headers["etag"]
    assert client.get(where, headers={"If-None-Match": tag}).status_code == 304
    with database.write() as session:
        session.execute(update(Audit).values(state="succeeded"))
        session.execute(text("UPDATE audits SET error = NULL"))
    assert client.get(where, headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_every_final_result_is_sent_once(settings, database, seeded, tmp_path):
    """Each route that documents 304 answers it: a new one fails here until it is asked too."""
    picture = tmp_path / "picture.svg"
    picture.write_text("<svg/>")
    drawn = {"sha256": FileStore(settings.data_dir).put(picture, Attempt(uuid.uuid4(), 1))}
    with database.write() as session:
        of = Comparison.id == uuid.UUID(seeded.comparison_id)
        (kept,) = session.scalars(select(Comparison.result).where(of))
        session.execute(
            update(Comparison)
            .where(of)
            .values(result=kept | {"architecture": kept["architecture"] | {"diagram": drawn}})
        )
    with TestClient(create_app(settings)) as client:
        body = {"model": "recorded:x", "dataset": "digits", "path": "/x.npz"}
        once = {"Idempotency-Key": "once"}
        (imported,) = {
            client.post("/v1/predictions/imports", json=body, headers=once).headers["Location"] for _ in range(2)
        }
        assert "etag" not in client.get(imported).headers
        with database.write() as session:
            session.execute(update(Job).where(Job.kind == "import").values(state="failed"))
        other = client.get("/v1/audits").json()["items"][-1]["id"]
        queued = client.post("/v1/vettings", json={"candidate": PAIR["a"], "reference": PAIR["b"], "policy": "default"})
        for suffix in ("", ".md"):
            assert "etag" not in client.get(queued.headers["Location"] + suffix).headers
        paths = {
            "/v1/comparisons/{comparison_id}": f"/v1/comparisons/{seeded.comparison_id}",
            "/v1/comparisons/{comparison_id}/diagram": f"/v1/comparisons/{seeded.comparison_id}/diagram",
            "/v1/audits/{audit_id}": f"/v1/audits/{seeded.audit_id}",
            "/v1/audits/{audit_id}/drift": f"/v1/audits/{seeded.audit_id}/drift?against={other}",
            "/v1/vettings/{vetting_id}": f"/v1/vettings/{seeded.vetting_id}",
            "/v1/vettings/{vetting_id}.md": f"/v1/vettings/{seeded.vetting_id}.md",
            "/v1/predictions/imports/{import_id}": imported,
        }
        routes = client.get("/v1/openapi.json").json()["paths"].items()
        assert {path for path, methods in routes if "304" in methods.get("get", {}).get("responses", {})} == {*paths}
        for path in paths.values():
            first = client.get(path)
            assert first.headers["etag"] == f'"{sha256(first.content).hexdigest()}"', path
            again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b""), path
            assert client.get(path, headers={"If-None-Match": '"other"'}).content == first.content


def test_the_answer_is_the_one_that_is_documented(client, compared):
    """A reply made by hand has the fields of the model, and those that a submission's reply has."""
    document = client.get("/v1/openapi.json").json()
    operation = document["paths"]["/v1/comparisons/{comparison_id}"]["get"]
    assert set(operation["responses"]) == {"200", "304", "401", "403", "404", "422", "429", "500", "503"}
    assert "ETag" in operation["responses"]["200"]["headers"]
    fields = document["components"]["schemas"]["Comparison"]["properties"]
    assert set(client.get(compared).json()) == set(fields)
    assert set(client.post("/v1/comparisons", json=PAIR | {"b": "keras:ResNet50@none"}).json()) == set(fields)
