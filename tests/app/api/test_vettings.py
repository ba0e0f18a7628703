"""Policies, verdicts and vettings over REST, on both databases; what was measured is put there as a worker does."""

from __future__ import annotations

import uuid

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from app.db import comparisons, listings
from app.db.tables import Comparison, Finding, Job
from app.domain import answer
from app.domain.plan import Scope
from app.main import create_app

OURS = {"name": "ours", "critical": ["architecture"], "advisory": ["interface"]}
PAIR = {"candidate": "torchvision:alexnet@none", "reference": "timm:alexnet@none"}


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def problem(reply, status, slug):
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["type"] == f"urn:zooaudit:{slug}"
    return reply.json()["detail"]


def side(ref, sha256, shape):
    listing = {"ref": ref, "architecture": "alexnet", "label_space": None, "contract": None}
    artifact = {"sha256": sha256, "bytes": 1, "format": "onnx"}
    inspected = {"listing": listing, "artifact": artifact, "input_shape": shape, "output_shape": [1, 10]}
    return answer.Side(ref, inspected | {"contract": None})


def measured(database, comparison_id, *, structural=0, same=True, shape=(1, 3, 8, 8)):
    """End a comparison as a worker does."""
    counts = {"nodes": 5, "parameters": 100, "flops": 1000}
    differences = [{"severity": "structural", "repeats": structural}] if structural else []
    block = {
        "verdict": "different" if structural else "identical",
        "a": counts | {"parameters": float("inf")},
        "b": counts,
    }
    with database.write() as session:
        row = session.get_one(Comparison, uuid.UUID(comparison_id))
        scope = Scope.from_json(row.scope)
        sides = side(row.a_ref, "a" * 64, [1, 3, 8, 8]), side(row.b_ref, ("a" if same else "b") * 64, list(shape))
        built = answer.build(
            *sides,
            measured={"architecture": block | {"differences": differences}},
            errors=scope.errors,
            policy=scope.policy,
            asked=scope.dimensions,
        )
        assert comparisons.succeed(session, row.id, built)


def vet(client, status=202, key=None, **request):
    headers = {} if key is None else {"Idempotency-Key": key}
    reply = client.post("/v1/vettings", json=request, headers=headers)
    assert reply.status_code == status, reply.text
    return reply


def test_policies_are_stored_in_versions(client):
    first = client.post("/v1/policies", json=OURS)
    assert (first.status_code, first.headers["Location"]) == (201, "/v1/policies/ours")
    assert (first.json()["version"], first.json()["shipped"]) == (1, False)
    same = client.post("/v1/policies", json=OURS | {"accuracy_margin": 0.005})
    assert (same.status_code, same.json()) == (200, first.json())
    assert client.post("/v1/policies", json=OURS | {"accuracy_margin": 0.1}).json()["version"] == 2
    shown = client.get("/v1/policies/ours").json()
    assert (shown["version"], shown["accuracy_margin"]) == (2, 0.1)
    assert [each["version"] for each in shown["versions"]] == [2, 1]
    page = client.get("/v1/policies", params={"limit": 3}).json()
    rest = client.get("/v1/policies", params={"limit": 3, "cursor": page["next_cursor"]}).json()
    found = [(each["name"], each["version"]) for each in page["items"] + rest["items"]]
    shipped = ["default", "drop-in-api", "embedding-index", "fine-tune-backbone"]
    assert found == [*((name, 1) for name in shipped), ("ours", 2)]


@pytest.mark.parametrize(
    ("changed", "slug", "said"),
    [
        ({"acuracy_margin": 0.1}, "malformed-request", "did you mean accuracy_margin?"),
        ({"critical": ["acuracy"]}, "malformed-request", "did you mean accuracy?"),
        ({"critical": []}, "malformed-request", "nothing could fail"),
        ({"latency_margin": "5%"}, "malformed-request", "a margin is a number"),
        ({"name": "our policy"}, "invalid-name", "letters, digits"),
        ({"name": "default"}, "shipped-policy", "give yours another name"),
    ],
)
def test_a_policy_with_a_mistake_is_refused(client, changed, slug, said):
    assert said in problem(client.post("/v1/policies", json=OURS | changed), 422, slug)
    problem(client.get("/v1/policies/our policy"), 404, "unknown-policy")
    problem(client.get("/v1/policies/%00"), 422, "malformed-request")


def test_an_answer_names_policy_and_version(client):
    def policy(value):
        request = {"a": PAIR["candidate"], "b": PAIR["reference"], "dimensions": ["architecture"], "policy": value}
        reply = client.post("/v1/comparisons", json=request)
        return reply.json()["policy"] if reply.status_code == 202 else problem(reply, 422, "unknown-policy")

    assert (policy("default")["version"], policy(OURS)["version"]) == (1, None)
    client.post("/v1/policies", json=OURS)
    client.post("/v1/policies", json=OURS | {"advisory": []})
    assert (policy("ours")["version"], policy("ours@1")["version"]) == (2, 1)
    assert policy(OURS)["version"] == 1, "given in full, and stored all the same"
    assert "its newest is 2" in policy("ours@3")
    assert "name@version" in policy("ours@x")
    assert "Did you mean ours?" in policy("our")


def test_a_vetting_from_request_to_decision(client, database):
    reply = vet(client, **PAIR, policy=OURS, key="k")
    where = reply.headers["Location"]
    assert vet(client, **PAIR, policy=OURS, key="k").json()["id"] == reply.json()["id"]
    assert (reply.json()["state"], reply.json()["verdict"], reply.json()["dimensions"]) == (
        "queued",
        None,
        ["architecture"],
    )
    assert client.get(where).json()["progress"]["total"] == 3
    assert "### Vetting: queued" in client.get(f"{where}.md").text
    measured(database, reply.json()["comparison_id"], structural=2)
    shown = client.get(where).json()
    assert (shown["state"], shown["verdict"]) == ("succeeded", "fail")
    assert "2 structural differences" in shown["reason"]
    assert [(check["criterion"], check["tier"], check["verdict"]) for check in shown["checks"]] == [
        ("architecture", "critical", "outside"),
        ("interface", "advisory", "inside"),
    ]
    summary = client.get(f"{where}.md")
    assert summary.headers["content-type"] == "text/markdown; charset=utf-8"
    assert summary.text.startswith("### Vetting: fail\n\n`torchvision:alexnet@none` in place of `timm:alexnet@none`")
    assert client.get("/v1/vettings").json()["items"] == [shown]
    problem(client.get(f"/v1/vettings/{uuid.uuid4()}"), 404, "not-found")
    problem(client.get(f"/v1/vettings/{uuid.uuid4()}.md"), 404, "not-found")
    problem(client.get("/v1/vettings/x.md"), 422, "malformed-request")


def test_a_stored_comparison_is_vetted_without_measuring_again(client, database):
    first = vet(client, **PAIR, policy=OURS).json()
    measured(database, first["comparison_id"], same=False)
    with database.read() as session:
        jobs = session.scalar(select(func.count()).select_from(Job))
    again = vet(client, comparison_id=first["comparison_id"], policy="fine-tune-backbone").json()
    assert again["verdict"] == "not_enough_evidence"
    assert "Weights: the models are not the same bytes" in again["reason"]
    assert "nothing that can be measured today decides weights" in again["needed"][0]
    assert client.get(f"/v1/vettings/{first['id']}").json()["verdict"] == "pass"
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == jobs
    of_one = client.get("/v1/vettings", params={"comparison_id": first["comparison_id"]}).json()["items"]
    assert [each["id"] for each in of_one] == [again["id"], first["id"]]
    unknown = {"comparison_id": str(uuid.uuid4()), "policy": OURS}
    problem(client.post("/v1/vettings", json=unknown), 422, "unknown-comparison")


def test_a_comparison_is_judged_again_and_keeps_its_answer(client, database):
    request = {"a": PAIR["candidate"], "b": PAIR["reference"], "dimensions": ["architecture"]}
    where = client.post("/v1/comparisons", json=request).headers["Location"]
    assert "ask again" in problem(client.post(f"{where}/verdicts", json={"policy": "default"}), 409, "no-answer")
    measured(database, where.rsplit("/", 1)[1], shape=(1, 8, 8, 3))
    before = client.get(where).json()
    assert before["verdict"] == "not_interchangeable"
    lenient = client.post(f"{where}/verdicts", json={"policy": OURS})
    assert (lenient.status_code, lenient.json()["verdict"]) == (200, "interchangeable")
    assert lenient.json()["policy"]["name"] == "ours"
    assert client.post(f"{where}/verdicts", json={"policy": OURS}).json() == lenient.json()
    same = client.post(f"{where}/verdicts", json={"policy": "default"}).json()
    for name in ("verdict", "reason", "architecture", "interface", "weights", "features", "policy"):
        assert same[name] == before[name]
    shared = ("metric", "a", "b", "effect", "ci95", "verdict", "severity")
    assert [[each[name] for name in shared] for each in same["findings"]] == [
        [each[name] for name in shared] for each in before["findings"]
    ]
    assert client.get(where).json() == before
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Finding)) == len(before["findings"])
    problem(client.post(f"{where}/verdicts", json={"policy": "ours"}), 422, "unknown-policy")
    problem(client.post(f"{where}/verdicts", json={}), 422, "malformed-request")
    nowhere = client.post(f"/v1/comparisons/{uuid.uuid4()}/verdicts", json={"policy": "default"})
    problem(nowhere, 404, "not-found")


def test_what_a_policy_needs_and_cannot_have_is_told(client, database):
    row = {"zoo": "timm", "name": "alexnet", "architecture": "alexnet", "classes": 10, "contract": None, "claims": []}
    rows = [
        row | {"weights": tag, "ref": f"timm:alexnet@{tag}", "default": tag == "V1", "label_space": "digits"}
        for tag in ("V1", "none")
    ]
    with database.write() as session:
        listings.replace_catalog(session, "timm", "1", [each | {"licence": None, "runtimes": []} for each in rows])

    def decided(policy="drop-in-api", **changed):
        asked = vet(client, **({"candidate": "timm:alexnet", "reference": "timm:alexnet"} | changed), policy=policy)
        measured(database, asked.json()["comparison_id"])
        return client.get(asked.headers["Location"]).json()

    without_data = decided()
    assert without_data["verdict"] == "not_enough_evidence"
    assert without_data["dimensions"] == ["architecture", "latency"]
    assert "add dataset digits" in without_data["reason"]
    assert without_data["needed"] == [
        "measure latency (--dimension latency)",
        "measure accuracy: name a data set (--dataset)",
    ]
    random = decided(reference="timm:alexnet@none", dataset="digits")
    assert "timm:alexnet@none has random weights" in random["reason"]
    assert decided(policy="embedding-index")["dimensions"] == ["architecture"]
    accuracy = {"name": "accuracy", "critical": ["accuracy"]}
    refused = vet(client, 422, candidate="timm:alexnet", reference="timm:alexnet", policy=accuracy)
    assert "add dataset digits" in problem(refused, 422, "no-dataset")


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"candidate": "timm:alexnet", "policy": "default"}, "a candidate and a reference, or a comparison_id"),
        ({"policy": "default"}, "a candidate and a reference, or a comparison_id"),
        (PAIR | {"comparison_id": str(uuid.uuid4()), "policy": "default"}, "leave out candidate, reference"),
        (PAIR, "body.policy"),
        (PAIR | {"policy": "default", "candiate": "x"}, "candiate"),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(client, request_, said):
    assert said in problem(client.post("/v1/vettings", json=request_), 422, "malformed-request")


def test_a_vetting_whose_comparison_failed_has_no_decision(client, database):
    where = vet(client, **PAIR, policy=OURS).headers["Location"]
    comparison_id = uuid.UUID(client.get(where).json()["comparison_id"])
    error = {"class": "unsafe", "code": "pickle", "message": "It can execute code."}
    with database.write() as session:
        comparisons.fail(session, comparison_id, error)
    shown = client.get(where).json()
    assert (shown["state"], shown["verdict"], shown["error"]["class"]) == ("failed", None, "unsafe")
    assert "It can execute code." in client.get(f"{where}.md").text
    reply = client.post(f"/v1/comparisons/{comparison_id}/verdicts", json={"policy": OURS})
    assert "compare anew" in problem(reply, 409, "no-answer")
