"""What every list has in common, asked of every list that the application has."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from app.api.lists import ListQuery
from app.api.models import PageOf
from app.main import create_app
from app.settings import Settings

VALUES = {"uuid": "0197b1f6-3a52-7c4e-9d0e-6f2f4a1c8b7d", "date-time": "2026-01-01T00:00:00+02:00"}
TYPES = {"boolean": "true", "integer": "1", "number": "0.5", "string": "abcd"}


def _lists():
    paths = create_app(Settings(database_url="sqlite://")).openapi()["paths"]
    gets = {path: methods["get"] for path, methods in paths.items() if "get" in methods}
    return {path: get.get("parameters", []) for path, get in gets.items() if _is_list(get)}


def _is_list(operation):
    schema = operation["responses"]["200"].get("content", {}).get("application/json", {}).get("schema", {})
    return f"/{PageOf.__name__}_" in schema.get("$ref", "")


LISTS = _lists()


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def test_there_are_lists():
    assert {"/v1/findings", "/v1/comparisons", "/v1/listings", "/v1/audits"} <= LISTS.keys()


@pytest.mark.parametrize("path", LISTS)
def test_every_list_has_a_cursor_a_limit_and_refuses_what_it_does_not_know(client, path):
    names = {parameter["name"] for parameter in LISTS[path]}
    assert {"cursor", "limit"} <= names, f"{path}: take its query as a subclass of {ListQuery.__name__}"
    reply = client.get(path, params={"architecure": "resnet50"})
    assert reply.status_code == 422
    assert "architecure" in reply.json()["detail"]


@pytest.mark.parametrize("path", LISTS)
def test_every_filter_and_sort_of_a_list_works(client, path):
    given = {"name": "timm", "zoo": "timm"}
    where = path.format_map({name: given.get(name, VALUES["uuid"]) for name in _names(path)})
    needed = {p["name"]: "timm:resnet50@none" for p in LISTS[path] if p["required"] and p["in"] == "query"}
    for parameter in LISTS[path]:
        if parameter["in"] != "query" or parameter["required"] or parameter["name"] == "cursor":
            continue
        schema = parameter["schema"]
        for value in _values(schema):
            reply = client.get(where, params=needed | {parameter["name"]: value})
            assert reply.status_code in {200, 404}, (parameter["name"], value, reply.text)


def _names(path):
    return [part.strip("{}") for part in path.split("/") if part.startswith("{")]


def _values(schema):
    if "anyOf" in schema:
        return _values(schema["anyOf"][0])
    if "enum" in schema:
        return schema["enum"]
    if "minimum" in schema:
        return [schema["minimum"]]
    return [VALUES.get(schema.get("format")) or TYPES[schema["type"]]] if "type" in schema else []
