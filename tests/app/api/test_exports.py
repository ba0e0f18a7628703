from __future__ import annotations

import csv
import io

import pytest
from fastapi.testclient import TestClient
from pyarrow import parquet
from sqlalchemy import update

from app.db.paging import Selection
from app.db.tables import Finding
from app.main import create_app
from app.services.exports import of_comparisons, of_findings


@pytest.fixture
def client(settings, seeded):  # noqa: ARG001 - the rows to export
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def as_csv(reply):
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(reply.text, newline="")))


def test_every_row_is_exported_in_the_lists_order_whatever_the_limit(client):
    listed = client.get("/v1/findings", params={"sort": "-effect", "limit": 200}).json()["items"]
    for more, accept in (("&format=csv", "*/*"), ("", "application/xml, text/csv;q=0.9")):
        rows = as_csv(client.get(f"/v1/findings?sort=-effect&limit=1{more}", headers={"Accept": accept}))
        assert [row["id"] for row in rows] == [item["id"] for item in listed]
        assert [row["effect"] for row in rows] == ["" if i["effect"] is None else str(i["effect"]) for i in listed]
    reply = client.get("/v1/findings", params={"sort": "-effect", "format": "parquet"})
    table = parquet.read_table(io.BytesIO(reply.content))
    assert table.column("id").to_pylist() == [item["id"] for item in listed]
    assert table.column("effect").to_pylist() == [item["effect"] for item in listed]


def test_comparisons_and_the_matrix_are_exported(client, seeded):
    rows = as_csv(client.get("/v1/comparisons?format=csv&state=succeeded"))
    assert rows[0]["id"] == seeded.comparison_id
    assert {row["verdict"] for row in rows} == {"interchangeable", "not_interchangeable"}
    cells = client.get("/v1/matrix").json()["cells"]
    assert [int(row["outside"]) for row in as_csv(client.get("/v1/matrix?format=csv"))] == [
        cell["verdicts"]["outside"] for cell in cells
    ]
    table = parquet.read_table(io.BytesIO(client.get("/v1/matrix?format=parquet").content))
    assert table.num_rows == len(cells)
    assert parquet.read_table(io.BytesIO(client.get("/v1/findings?zoo=no&format=parquet").content)).num_rows == 0


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("exported", [of_findings, of_comparisons])
def test_no_connection_is_kept_while_a_client_reads(database, exported):
    with database.read() as session:
        rows = exported(session, Selection())
        assert next(rows)["id"]
        assert not session.in_transaction()
        assert len(list(rows)) > 0


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r"])
def test_no_spreadsheet_takes_a_name_for_a_formula(client, database, begins):
    with database.write() as session:
        session.execute(update(Finding).values(metric=f"{begins}cmd|' /C calc'!A0"))
    rows = as_csv(client.get("/v1/findings?format=csv"))
    assert all(row["metric"].startswith("'") for row in rows)
    assert all(float(row["a"]) > 0 for row in rows if row["a"])


def test_a_mistake_is_a_problem_also_of_an_export(client):
    for path in ("findings?format=xml", "findings?format=csv&cursor=x", "matrix?format=csv&architecture=%00"):
        reply = client.get(f"/v1/{path}")
        assert (reply.status_code, reply.headers["content-type"]) == (422, "application/problem+json")
