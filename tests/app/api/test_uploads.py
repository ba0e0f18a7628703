"""Uploads over HTTP: a file comes whole or not at all, and is its team's alone."""

from __future__ import annotations

import hashlib
import json
import resource
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient

from app.db import uploads as rows
from app.db.paging import Selection
from app.domain.storage import partial_folder, upload_path
from app.errors import ConflictError, ForbiddenError, NotFoundError, StorageFullError, TooLargeError
from app.main import create_app
from app.services import comparisons, uploads
from app.services.uploads import Incoming

OCTETS = {"Content-Type": "application/octet-stream"}
CONTENT = b"\x08\x08" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def small(settings):
    return settings.model_copy(update={"upload_bytes": 5000})


@pytest.fixture
def client(small):
    with TestClient(create_app(small), raise_server_exceptions=False) as opened:
        yield opened


def nothing_left(settings):
    return not list(partial_folder(settings.data_dir).glob("*"))


def refused(reply, status, slug):
    assert reply.status_code == status, reply.text
    assert reply.json()["type"] == f"urn:zooaudit:{slug}"
    return reply.json()["detail"]


def test_a_file_is_kept_once_by_its_digest(client, small):
    reply = client.post("/v1/uploads", params={"name": "mine.onnx"}, content=CONTENT, headers=OCTETS)
    assert reply.status_code == 201
    added = reply.json()
    assert (added["ref"], added["bytes"], added["name"]) == (f"upload:{DIGEST}", len(CONTENT), "mine.onnx")
    assert upload_path(small.data_dir, DIGEST).read_bytes() == CONTENT
    again = client.post("/v1/uploads", content=CONTENT, headers=OCTETS)
    assert (again.status_code, again.json()) == (200, added)
    assert client.get(reply.headers["Location"]).json() == added
    for good in ("", f"?sha256={DIGEST}"):
        assert client.get(f"/v1/uploads{good}").json()["items"] == [added]
    assert client.get(f"/v1/uploads?sha256={'0' * 64}").json()["items"] == []
    assert nothing_left(small)


def test_what_is_no_upload_is_refused_and_leaves_nothing(client, small):
    assert "5000 bytes" in refused(client.post("/v1/uploads", content=bytes(5001), headers=OCTETS), 413, "too-large")
    pieces = (bytes(1000) for _ in range(6))  # its size is not announced
    refused(client.post("/v1/uploads", content=pieces, headers=OCTETS), 413, "too-large")
    refused(client.post("/v1/uploads", content=b"", headers=OCTETS), 422, "empty-upload")
    for media in ("application/json", "multipart/form-data; boundary=x", ""):
        reply = client.post("/v1/uploads", content=CONTENT, headers={"Content-Type": media})
        refused(reply, 415, "unsupported-media-type")
    reply = client.post("/v1/uploads", params={"name": "a\nb"}, content=CONTENT, headers=OCTETS)
    refused(reply, 422, "malformed-request")
    assert client.get("/v1/uploads").json()["items"] == []
    assert not (small.data_dir / "uploads").exists()
    assert nothing_left(small)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_caller_who_goes_away_leaves_nothing(served, settings):
    host, port = served.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/uploads HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/octet-stream\r\n"
        connection.sendall(head.encode() + b"Content-Length: 10000000\r\n\r\n" + bytes(2**21))
        wait_for(lambda: any(path.stat().st_size for path in partial_folder(settings.data_dir).glob("*")))
    wait_for(lambda: nothing_left(settings))
    assert not (settings.data_dir / "uploads").exists()


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@contextmanager
def room_for(size):
    """Have the kernel refuse to write more into a file, as it does when a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_full_disk_is_told_and_leaves_nothing(settings):
    with room_for(2**20), Incoming(settings) as incoming:
        incoming.write(bytes(2**20))
        with pytest.raises(StorageFullError, match="no room"):
            incoming.write(bytes(2**20))
    assert StorageFullError.status == 507
    assert nothing_left(settings)


def test_an_upload_is_its_teams_alone(database, settings, tmp_path):
    (path := tmp_path / "model.onnx").write_bytes(CONTENT)
    red, blue = database.of("red"), database.of("blue")
    with red.write() as session:
        ours = uploads.add(session, settings, path)
    with blue.read() as session:
        assert rows.by_digest(session, DIGEST) is None
        assert uploads.find(session, Selection())["items"] == []
    with blue.write() as session:
        theirs = uploads.add(session, settings, path)
    assert (theirs["ref"], theirs["id"] == ours["id"]) == (ours["ref"], False)
    with red.read() as session:
        assert [each["id"] for each in uploads.find(session, Selection())["items"]] == [ours["id"]]
    assert len(list((settings.data_dir / "uploads").rglob(DIGEST))) == 1


def put(client, content=CONTENT):
    reply = client.post("/v1/uploads", content=content, headers=OCTETS)
    assert reply.status_code == 201, reply.text
    return reply.json()


def test_an_upload_that_nothing_needs_is_deleted_with_its_file(client, small):
    added = put(client)
    where = f"/v1/uploads/{added['id']}"
    body = {"a": added["ref"], "b": "timm:resnet50@none", "dimensions": ["architecture"]}
    compared = client.post("/v1/comparisons", json=body).headers["Location"]
    said = refused(client.delete(where), 409, "upload-in-use")
    assert compared.rsplit("/", 1)[1] in said
    assert upload_path(small.data_dir, DIGEST).exists()
    client.post(f"{compared}/cancel")
    assert client.delete(where).status_code == 204
    assert not upload_path(small.data_dir, DIGEST).exists()
    refused(client.delete(where), 404, "not-found")
    refused(client.post("/v1/comparisons", json=body), 422, "unknown-upload")
    assert client.get(compared).json()["a"]["ref"] == added["ref"], "what was asked about it stays"
    deed = client.get("/v1/activity").json()["items"]
    assert ("DELETE", where, 204) in {(each["method"], each["path"], each["status"]) for each in deed}
    put(client)
    assert upload_path(small.data_dir, DIGEST).exists(), "it can come back"


def test_bytes_stay_as_long_as_another_team_has_them(database, small, tmp_path):
    (path := tmp_path / "model.onnx").write_bytes(CONTENT)
    ids = {}
    for team in ("red", "blue", "shared"):
        with database.of(team).write() as session:
            ids[team] = uuid.UUID(uploads.add(session, small, path)["id"])
    with pytest.raises(NotFoundError), database.of("red").write() as session:
        uploads.remove(session, small, ids["blue"])
    with pytest.raises(ForbiddenError), database.of("red").write() as session:
        uploads.remove(session, small, ids["shared"])
    with database.of("red").write() as session:
        request = {"a": f"upload:{DIGEST}", "b": "timm:resnet50@none", "dimensions": ["architecture"]}
        compared = comparisons.submit(session, small, request).id
    with database.of("blue").write() as session:
        uploads.remove(session, small, ids["blue"])
    with pytest.raises(ConflictError, match="another team's comparison"), database.of("shared").write() as session:
        uploads.remove(session, small, ids["shared"])
    with database.of("red").write() as session:
        comparisons.cancel(session, compared)
        uploads.remove(session, small, ids["red"])
    assert upload_path(small.data_dir, DIGEST).exists()
    with database.of("shared").write() as session:
        uploads.remove(session, small, ids["shared"])
    assert not upload_path(small.data_dir, DIGEST).exists()


def test_a_team_has_room_for_so_many_bytes(database, small, tmp_path):
    few = small.model_copy(update={"upload_team_bytes": 5000})

    def add(team, letter):
        (path := tmp_path / "model.onnx").write_bytes(letter * 2000)
        with database.of(team).write() as session:
            return uploads.add(session, few, path)["id"]

    first = add("red", b"a")
    add("red", b"b")
    with pytest.raises(TooLargeError, match=r"6,000, more than the 5,000 .*_UPLOAD_TEAM_BYTES"):
        add("red", b"c")
    assert add("red", b"a") == first, "what it has already takes no room"
    add("blue", b"c")
    with database.of("red").write() as session:
        uploads.remove(session, few, uuid.UUID(first))
    add("red", b"c")
    assert nothing_left(few)


def test_a_quota_is_a_problem_over_http(settings):
    with TestClient(create_app(settings.model_copy(update={"upload_team_bytes": 1000}))) as client:
        reply = client.post("/v1/uploads", content=CONTENT, headers=OCTETS)
        refused(reply, 413, "upload-quota")
        assert client.get("/v1/uploads").json()["items"] == []
    assert not upload_path(settings.data_dir, DIGEST).exists()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_uploading_and_deleting_at_once_never_leaves_an_upload_without_its_file(database, settings, tmp_path):
    def turn(team):
        (path := tmp_path / team).write_bytes(CONTENT)
        for _ in range(20):
            with database.of(team).write() as session:
                added = uploads.add(session, settings, path)
            assert upload_path(settings.data_dir, DIGEST).exists()
            with database.of(team).write() as session:
                uploads.remove(session, settings, uuid.UUID(added["id"]))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(turn, ("red", "blue", "green")))
    assert not upload_path(settings.data_dir, DIGEST).exists()


def test_uploads_on_the_command_line(tmp_path, open_command_line):
    (path := tmp_path / "model.onnx").write_bytes(CONTENT)
    with open_command_line(tmp_path / "data") as zooaudit:
        (added,) = json.loads(zooaudit("uploads", "add", path, "--json").stdout)
        assert "is removed" in zooaudit("uploads", "remove", added["ref"]).stderr
        assert json.loads(zooaudit("uploads", "list", "--json").stdout) == []
        assert "zooaudit uploads list" in zooaudit("uploads", "remove", added["ref"], status=2).stderr
    assert not upload_path(tmp_path / "data", DIGEST).exists()
