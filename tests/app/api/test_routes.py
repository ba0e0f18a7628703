from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, text, update

from app.db import comparisons, jobs, listings
from app.db.tables import Comparison, Job
from app.domain.answer import Answer
from app.domain.policies import Dimension
from app.domain.verdicts import Finding, Place, Severity, Verdict
from app.main import create_app
from workers.files import Attempt, FileStore

EXAMPLES = Path(__file__).parents[3] / "examples/digits"
PAIR = {"a": "torchvision:resnet50@none", "b": "timm:resnet50@none"}


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def submit(client, expected=202, key=None, **changed):
    headers = {} if key is None else {"Idempotency-Key": key}
    reply = client.post("/v1/comparisons", json=PAIR | changed, headers=headers)
    assert reply.status_code == expected, reply.text
    return reply


def problem(reply, status, slug):
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert body["type"] == f"urn:zooaudit:{slug}"
    assert body["status"] == status
    assert body["title"]
    return body["detail"]


def catalog(database, zoo, *names, tags=("V1", "V2", "none")):
    rows = [
        {
            "zoo": zoo,
            "name": name,
            "weights": tag,
            "ref": f"{zoo}:{name}@{tag}",
            "architecture": name,
            "default": tag == "V1",
            "label_space": "digits",
            "classes": 10,
            "contract": None,
            "claims": [],
            "licence": None,
            "runtimes": ["torch"],
        }
        for name in names
        for tag in tags
    ]
    with database.write() as session:
        listings.replace_catalog(session, zoo, "1", rows)


def test_a_comparison_from_request_to_answer(client, database):
    reply = submit(client)
    where = reply.headers["Location"]
    assert reply.json()["state"] == "queued"
    shown = client.get(where).json()
    assert shown == reply.json(), "made and not read back"
    assert shown["progress"] == {"done": 0, "total": 4, "message": None}
    with database.write() as session:
        jobs.claim_next(session, worker="w", device="cpu", places={"cpu": "h"}, lease_s=30)
    running = client.get(where).json()
    assert running["state"] == "running"
    assert running["progress"]["message"].startswith("inspect torchvision:resnet50@none")
    assert len(client.get("/v1/comparisons?state=running").json()["items"]) == 1
    assert client.get("/v1/comparisons?state=queued").json()["items"] == []
    judged = Finding(
        Dimension.LATENCY, "m", 1.0, float("inf"), 0.5, (0.1, 0.9), 0.05, Place.OUTSIDE, Severity.CRITICAL, {}
    )
    answer = Answer(Verdict.NOT_INTERCHANGEABLE, [judged], {"reason": "slow", "latency": {"x": float("nan")}})
    with database.write() as session:
        assert comparisons.succeed(session, uuid.UUID(shown["id"]), answer)
        assert not comparisons.succeed(session, uuid.UUID(shown["id"]), answer), "once only"
    ended = client.get(where).json()
    assert (ended["state"], ended["verdict"], ended["reason"]) == ("succeeded", "not_interchangeable", "slow")
    assert ended["latency"] == {"x": {"value": None, "kind": "nan"}}
    assert [(item["a"], item["b"]) for item in ended["findings"]] == [(1.0, {"value": None, "kind": "+inf"})]
    for good in ("dimension=latency", "zoo=timm", "zoo=torchvision", "verdict=outside", "sort=-effect"):
        assert len(client.get(f"/v1/findings?{good}").json()["items"]) == 1, good
    for bad in ("dimension=accuracy", "zoo=keras", "verdict=inside", f"audit_id={uuid.uuid4()}"):
        assert client.get(f"/v1/findings?{bad}").json()["items"] == [], bad
    problem(client.post(f"{where}/cancel"), 409, "already-ended")


def test_a_diagram_is_served_or_says_why_not(client, database, settings):
    where = submit(client).headers["Location"]
    named = uuid.UUID(where.rsplit("/", 1)[1])
    said = problem(client.get(f"{where}/diagram"), 404, "no-diagram")
    assert "it is queued" in said
    problem(client.get(f"/v1/comparisons/{uuid.uuid4()}/diagram"), 404, "not-found")

    def stored(architecture):
        with database.write() as session:
            session.execute(
                update(Comparison)
                .where(Comparison.id == named)
                .values(state="succeeded", result={"architecture": architecture})
            )

    stored(None)
    assert "was not compared" in problem(client.get(f"{where}/diagram"), 404, "no-diagram")
    stored({"diagram": {"left_out": "it would have 900 parts", "sha256": None}})
    assert "900 parts" in problem(client.get(f"{where}/diagram"), 404, "no-diagram")
    picture = settings.data_dir.parent / "picture.svg"
    picture.write_text('<svg xmlns="http://www.w3.org/2000/svg"><text>ä</text></svg>', encoding="utf-8")
    files = FileStore(settings.data_dir)
    digest = files.put(picture, Attempt(uuid.uuid4(), 1))
    stored({"diagram": {"left_out": None, "sha256": digest}})
    reply = client.get(f"{where}/diagram")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("image/svg+xml")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert reply.content == picture.read_bytes()
    files.path(digest).unlink()
    assert "ask for the comparison again" in problem(client.get(f"{where}/diagram"), 404, "no-diagram")


def test_a_lost_compare_job_is_shown_as_failed(client, database):
    where = submit(client).headers["Location"]
    with database.write() as session:
        lost = {"class": "lost", "code": "worker-lost", "message": "gone"}
        session.execute(update(Job).where(Job.kind == "compare").values(state="failed", error=lost))
    shown = client.get(where).json()
    assert (shown["state"], shown["error"]["class"]) == ("failed", "lost")
    assert len(client.get("/v1/comparisons?state=failed").json()["items"]) == 1


def test_cancelling_spares_what_another_comparison_needs(client, database):
    first = submit(client).headers["Location"]
    submit(client, b="keras:ResNet50@none")
    for _ in range(2):
        assert client.post(f"{first}/cancel").json()["state"] == "cancelled"
    with database.read() as session:
        cancelled = session.scalars(select(Job).where(Job.state == "cancelled")).all()
        kept = session.scalars(select(Job).where(Job.state == "queued", Job.kind == "inspect")).all()
    assert sorted(job.kind for job in cancelled) == ["compare", "inspect", "latency"]
    assert {job.payload["listing"]["ref"] for job in kept} == {"torchvision:resnet50@none", "keras:ResNet50@none"}


def test_the_same_key_makes_one_comparison(client, database):
    one, two = submit(client, key="k1"), submit(client, key="k1")
    assert one.json()["id"] == two.json()["id"]
    problem(submit(client, 422, key="k1", b="keras:ResNet50@none"), 422, "idempotency-key-reused")
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: submit(client, key="k2").json()["id"], range(8)))
    assert len(set(replies)) == 1
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Comparison)) == 2


@pytest.mark.parametrize(
    ("changed", "slug", "words"),
    [
        ({"a": "resnet50"}, "malformed-reference", "zoo:name"),
        ({"a": "torchvison:resnet50"}, "unknown-zoo", "Did you mean torchvision"),
        ({"dimensions": ["acuracy"]}, "unknown-dimension", "choose from architecture, accuracy"),
        ({"dimensions": ["accuracy"]}, "random-weights", "leave accuracy out"),
        ({"dataset": "digit", "dimensions": ["latency"]}, "unknown-dataset", "Did you mean digits"),
        ({"policy": "defalt"}, "unknown-policy", "Did you mean default"),
        ({"operating_points": [{"runtime": "tensorrt"}]}, "invalid-operating-point", "choose from"),
        ({"latency_budget_s": -1}, "invalid-budget", "seconds"),
        ({"policy": {"name": "p", "margin": 1}}, "malformed-request", "margin"),
        ({"nonsense": 1}, "malformed-request", "nonsense"),
        ({"a": "x\u0000"}, "malformed-request", "body.a"),
        ({"a": None}, "malformed-request", "body.a"),
    ],
)
def test_bad_comparisons_are_refused_with_advice(client, changed, slug, words):
    assert words in problem(submit(client, 422, **changed), 422, slug)


def test_catalogs_refuse_unknown_models_and_weights(client, database):
    catalog(database, "torchvision", "resnet50", "alexnet")
    unknown = problem(submit(client, 422, a="torchvision:resnet5"), 422, "unknown-model")
    assert "Did you mean resnet50" in unknown
    assert "It has V1" in problem(submit(client, 422, a="torchvision:resnet50@V9"), 422, "unknown-weights")
    detail = problem(submit(client, 422, dimensions=["accuracy"]), 422, "random-weights")
    assert "(V1, V2)" in detail
    accuracy = {"a": "torchvision:resnet50", "b": "timm:resnet50", "dimensions": ["accuracy"]}
    assert "add dataset digits" in problem(submit(client, 422, **accuracy), 422, "no-dataset")


def test_zoos_and_listings(client, database):
    catalog(database, "torchvision", "resnet50", "vgg_16", "vggx16")
    zoos = {zoo["name"]: zoo for zoo in client.get("/v1/zoos").json()}
    assert (zoos["torchvision"]["listings"], zoos["timm"]["listings"]) == (9, None)
    assert client.get("/v1/zoos/torchvision").json() == zoos["torchvision"]
    problem(client.get("/v1/zoos/nope"), 404, "unknown-zoo")
    found, cursor = [], ""
    while cursor is not None:
        page = client.get(
            "/v1/listings", params={"zoo": "torchvision", "limit": 2} | ({"cursor": cursor} if cursor else {})
        )
        found += [item["ref"] for item in page.json()["items"]]
        cursor = page.json()["next_cursor"]
    assert found == sorted(found)
    assert len(found) == 9
    matching = client.get("/v1/listings?match=VGG_").json()["items"]
    assert {item["name"] for item in matching} == {"vgg_16"}, "an underscore is no wildcard"
    by_name = client.get("/v1/listings?match=VGG&sort=-name&label_space=digits&default=true").json()["items"]
    assert [item["name"] for item in by_name] == ["vggx16", "vgg_16"]
    assert client.get(f"/v1/listings/{matching[0]['id']}").json() == matching[0]
    problem(client.get(f"/v1/listings/{uuid.uuid4()}"), 404, "not-found")
    problem(client.get("/v1/listings?cursor=x"), 422, "malformed-cursor")
    problem(client.get("/v1/listings?match=%00"), 422, "malformed-request")


def test_datasets(client):
    own = {"name": "val", "format": "folder", "path": "/data/val", "label_space": "imagenet-1k"}
    reply = client.post("/v1/datasets", json=own)
    assert (reply.status_code, reply.headers["Location"]) == (201, "/v1/datasets/val")
    assert client.get("/v1/datasets/val").json() == reply.json()
    assert [item["name"] for item in client.get("/v1/datasets").json()["items"]] == ["digits", "val"]
    problem(client.post("/v1/datasets", json=own), 409, "dataset-exists")
    keyed = {"json": own | {"name": "keyed"}, "headers": {"Idempotency-Key": "d1"}}
    assert client.post("/v1/datasets", **keyed).json() == client.post("/v1/datasets", **keyed).json()
    problem(client.post("/v1/datasets", json=own | {"name": "b", "path": "val"}), 422, "bad-path")
    problem(client.post("/v1/datasets", json=own | {"name": "b", "format": "tar"}), 422, "invalid-format")
    problem(client.get("/v1/datasets/none"), 404, "unknown-dataset")


def test_options_of_a_data_sets_format(client):
    flat = {"name": "flat", "format": "imagenet-flat", "path": "/data/val"}
    truth = {"ground_truth": "/data/truth.txt", "synsets": "/data/meta.mat"}
    reply = client.post("/v1/datasets", json=flat | {"options": truth})
    assert reply.status_code == 201
    assert reply.json()["label_space"] == "imagenet-1k"
    assert client.get("/v1/datasets/flat").json()["options"] == truth
    assert client.get("/v1/datasets/digits").json()["options"] == {}
    own = {"name": "own", "format": "mnist", "path": "/data/mnist"}
    problem(client.post("/v1/datasets", json=flat | {"name": "own"}), 422, "option-missing")
    problem(client.post("/v1/datasets", json=own | {"options": {"ground_truth": "/x"}}), 422, "invalid-option")
    problem(client.post("/v1/datasets", json=own | {"options": {"split": "dev"}}), 422, "invalid-option")
    problem(client.post("/v1/datasets", json=own | {"options": {"spilt": "test"}}), 422, "malformed-request")
    problem(client.post("/v1/datasets", json=flat | {"options": {"ground_truth": "truth.txt"}}), 422, "bad-path")
    assert client.post("/v1/datasets", json=own | {"options": {"split": "train"}}).status_code == 201


def test_audits(client, database):
    problem(client.post("/v1/audits", json={"zoos": ["timm"]}), 422, "too-few-zoos")
    problem(client.post("/v1/audits", json={"zoos": ["timm", "file"]}), 422, "unknown-zoo")
    random = {"zoos": ["timm", "keras"], "weights": "none", "dataset": "digits"}
    problem(client.post("/v1/audits", json=random), 422, "random-weights")
    reply = client.post("/v1/audits", json={"zoos": ["timm", "keras"]})
    where = reply.headers["Location"]
    assert (reply.status_code, reply.json()["progress"]["total"]) == (202, 3)
    assert [item["id"] for item in client.get("/v1/audits").json()["items"]] == [reply.json()["id"]]
    assert client.post(f"{where}/cancel").json()["state"] == "cancelled"
    with database.read() as session:
        assert set(session.scalars(select(Job.state))) == {"cancelled"}
    problem(client.get(f"/v1/audits/{uuid.uuid4()}"), 404, "not-found")


def test_errors_that_no_route_sees(client, database):
    problem(client.get("/nope"), 404, "no-route")
    reply = client.delete("/v1/zoos")
    problem(reply, 405, "method-not-allowed")
    assert reply.headers["allow"] == "GET"
    problem(client.post("/v1/comparisons", content=b"{"), 422, "malformed-request")
    problem(client.get("/v1/comparisons/7"), 422, "malformed-request")
    with database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE datasets RENAME TO gone"))
    reply = client.get("/v1/datasets")
    assert reply.status_code in {500, 503}
    assert "gone" not in reply.text
    assert "Traceback" not in reply.text


def test_every_route_documents_its_problems(client):
    document = client.get("/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert client.get("/v1/policies").json()["items"][0]["name"] == "default"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            errors = [code for code in operation["responses"] if code >= "400"]
            assert errors, (path, method)
            for code in errors:
                content = operation["responses"][code]["content"]
                assert list(content) == ["application/problem+json"], (path, method, code)
                assert content["application/problem+json"]["example"]["status"] == int(code)
    for request in ("ComparisonRequest", "AuditRequest", "DatasetRequest", "NewPolicy", "VettingRequest"):
        assert document["components"]["schemas"][request]["examples"]


def test_a_zoo_is_indexed_over_rest_and_joined_while_under_way(client):
    reply = client.post("/v1/zoos/timm/index")
    assert reply.status_code == 202, reply.text
    where = reply.headers["Location"]
    assert reply.json()["state"] == "queued"
    assert client.post("/v1/zoos/timm/index").json()["requested_at"] >= reply.json()["requested_at"]
    shown = client.get(where).json()
    assert (shown["zoo"], shown["progress"]["total"], shown["failures"]) == ("timm", 2, {})
    assert client.get(f"{where}/failures").json() == {"items": [], "next_cursor": None}
    assert client.post(f"{where}/cancel").json()["state"] == "cancelled"
    assert "zooaudit index --zoo keras" in problem(client.get("/v1/zoos/keras/index"), 404, "not-indexed")
    assert "Did you mean timm" in problem(client.post("/v1/zoos/tim/index"), 422, "unknown-zoo")


def test_the_nearest_of_a_listing_over_rest(client, database):
    catalog(database, "timm", "resnet50")
    listing = client.get("/v1/listings").json()["items"][0]
    where = f"/v1/listings/{listing['id']}/similar"
    assert "/v1/zoos/timm/index" in problem(client.get(where), 409, "not-indexed")
    problem(client.get(where, params={"limit": 0}), 422, "malformed-request")
    problem(client.get(f"/v1/listings/{uuid.uuid4()}/similar"), 404, "not-found")
