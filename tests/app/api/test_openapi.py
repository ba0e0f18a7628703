"""What the OpenAPI says of each route: words, and examples of what is sent and of what comes back, valid by schema."""

from __future__ import annotations

import jsonschema_rs
import pytest

from app.main import create_app
from app.settings import Settings

TWICE = {
    "POST /v1/uploads": "the same bytes are one upload",
    "POST /v1/policies": "the same content makes no new version",
    "POST /v1/zoos/{zoo}/index": "joins work under way",
    "POST /v1/webhooks/{webhook_id}/test": "each request sends a message",
    "POST /v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redelivery": "refused while the first is under way",
}
"""What takes no Idempotency-Key, and what a retry does there."""


@pytest.fixture(scope="module")
def document():
    return create_app(Settings()).openapi()


@pytest.fixture(scope="module")
def operations(document):
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def examples(content, document):
    """Return the examples of a body: its own, else those of its model."""
    if "example" in content:
        return [content["example"]]
    model = content["schema"].get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"].get(model, {}).get("examples", [])


def check(content, document, where):
    found = examples(content, document)
    assert found, f"{where} has no example"
    validator = jsonschema_rs.Draft202012Validator(
        content["schema"] | {"components": document["components"]}, validate_formats=True
    )
    for example in found:
        errors = [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(example)]
        assert not errors, f"{where}: {errors}"


def test_every_route_is_described(operations):
    for route, operation in operations.items():
        assert operation.get("summary"), route
        assert operation.get("description"), route


def test_every_request_has_an_example(document, operations):
    bodies = {route: each["requestBody"]["content"] for route, each in operations.items() if "requestBody" in each}
    assert len(bodies) > 10
    for route, body in bodies.items():
        for media, content in body.items():
            check(content, document, f"the body of {route} as {media}")


def test_every_answer_has_an_example(document, operations):
    checked = 0
    for route, operation in operations.items():
        for status, reply in operation["responses"].items():
            for media, content in reply.get("content", {}).items():
                check(content, document, f"{status} of {route} as {media}")
                checked += 1
    assert checked > 300


def test_whatever_makes_something_can_be_retried(operations):
    makes = [route for route, each in operations.items() if {"201", "202"} & set(each["responses"])]
    keyed = {
        route
        for route, each in operations.items()
        if "Idempotency-Key" in {parameter["name"] for parameter in each.get("parameters", [])}
    }
    assert sorted(makes) == sorted(keyed | TWICE.keys())
    assert not keyed & TWICE.keys()


def test_what_was_just_asked_for_is_not_shown_as_ended(operations):
    for route, operation in operations.items():
        if "202" in operation["responses"]:
            shown = operation["responses"]["202"]["content"]["application/json"]["example"]
            assert shown["state"] in {"queued", "pending"}, route
            assert shown.get("finished_at") is None, route


def test_an_example_that_its_schema_refuses_is_noticed(document):
    content = {"schema": {"$ref": "#/components/schemas/Zoo"}, "example": {"name": "torchvision"}}
    with pytest.raises(AssertionError, match="title"):
        check(content, document, "this")
