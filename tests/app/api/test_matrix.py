from __future__ import annotations

import random
from collections import Counter

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, select

from app.db.tables import Comparison, Finding
from app.main import create_app
from app.services import matrix

ZOOS = ("keras", "timm", "torchvision")


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def fill(session, count=60, seed=7):
    rng = random.Random(seed)  # noqa: S311  (reproducible draws, no secret)
    comparison = Comparison(state="succeeded", a_ref="x:a", b_ref="y:a", scope={})
    session.add(comparison)
    session.flush()
    for _ in range(count):
        zoo_a, zoo_b = rng.sample(ZOOS, 2)
        session.add(
            Finding(
                comparison_id=comparison.id,
                a_ref=f"{zoo_a}:net",
                b_ref=f"{zoo_b}:net",
                zoo_a=zoo_a,
                zoo_b=zoo_b,
                architecture=rng.choice([None, "alexnet", "resnet50"]),
                dimension=rng.choice(["accuracy", "latency"]),
                metric="m",
                effect=-0.5,
                magnitude=rng.random(),
                verdict=rng.choice(["inside", "outside", "inconclusive"]),
                severity="critical",
                details={},
            )
        )


def expected(rows):
    cells = {}
    for row in rows:
        cells.setdefault((row.zoo_a, row.zoo_b, row.dimension), []).append(row)
    return {
        key: (Counter(row.verdict for row in found), max(found, key=lambda row: row.magnitude).id)
        for key, found in cells.items()
    }


def shown(client, **query):
    reply = client.get("/v1/matrix", params=query)
    assert reply.status_code == 200, reply.text
    cells = reply.json()["cells"]
    assert all(cell["findings"] == sum(cell["verdicts"].values()) for cell in cells)
    return {
        (cell["zoo_a"], cell["zoo_b"], cell["dimension"]): (
            Counter({name: count for name, count in cell["verdicts"].items() if count}),
            cell["worst"]["finding_id"],
        )
        for cell in cells
    }


def of_rows(rows):
    return {key: (counts, str(worst)) for key, (counts, worst) in expected(rows).items()}


def test_the_matrix_counts_what_the_list_has_also_when_findings_go(client, database):
    with database.write() as session:
        fill(session)
    for _ in range(2):
        with database.read() as session:
            rows = session.scalars(select(Finding)).all()
        assert shown(client) == of_rows(rows)
        of_one = [row for row in rows if row.architecture == "resnet50"]
        assert shown(client, architecture="resnet50") == of_rows(of_one)
        slow = [row for row in rows if row.dimension == "latency" and "timm" in {row.zoo_a, row.zoo_b}]
        assert shown(client, dimension="latency", zoo="timm") == of_rows(slow)
        largest = sorted(rows, key=lambda row: -row.magnitude)[:20]
        with database.write() as session:
            session.execute(delete(Finding).where(Finding.id.in_([row.id for row in largest])))
            fill(session, 5, seed=8)


def test_what_a_team_keeps_to_itself_counts_for_it_alone(database):
    with database.of("red").write() as session:
        fill(session)
    with database.write() as session:
        fill(session, 5, seed=8)
    for team in ("red", "blue"):
        with database.of(team).read() as session:
            cells = matrix.show(session)["cells"]
            rows = session.scalars(select(Finding)).all()
        assert len(rows) == {"red": 65, "blue": 5}[team]
        assert sum(cell["findings"] for cell in cells) == len(rows)
        assert {cell["worst"]["finding_id"] for cell in cells} <= {row.id for row in rows}


def test_a_matrix_of_one_audit_and_of_none(client, seeded):
    cells = client.get("/v1/matrix", params={"audit_id": seeded.audit_id}).json()["cells"]
    assert {(cell["zoo_a"], cell["zoo_b"]) for cell in cells} == {("torchvision", "timm")}
    assert {cell["worst"]["comparison_id"] for cell in cells} == {seeded.comparison_id}
    assert client.get("/v1/matrix", params={"architecture": "nope"}).json()["cells"] == []
    both = client.get("/v1/matrix", params={"audit_id": seeded.audit_id, "architecture": "resnet50"})
    assert (both.status_code, both.json()["type"]) == (422, "urn:zooaudit:too-narrow")


def test_trends_say_what_moved_and_what_cannot_be_compared(client, seeded):
    reply = client.get("/v1/trends", params={"ref": "timm:resnet50@none", "limit": 2000}).json()
    series = {each["metric"]: each["points"] for each in reply["series"]}
    slower = next(points for metric, points in series.items() if metric.startswith("latency"))
    assert [point["verdict"] for point in slower] == ["inside", "outside", "outside"]
    assert [point["moved"] for point in slower] == [[], ["incomparable"], ["incomparable"]], "no machine is told"
    assert [point["moved"] for point in series["top1"]] == [[], [], []]
    assert not reply["truncated"]
    last = client.get("/v1/trends", params={"ref": "timm:resnet50@none", "metric": "top1", "limit": 1}).json()
    assert last["truncated"]
    assert [point["comparison_id"] for point in last["series"][0]["points"]] == [seeded.comparison_id]
