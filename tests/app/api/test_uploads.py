"""Uploads over HTTP: a file comes whole or not at all, and is its team's alone."""

from __future__ import annotations

import hashlib
import resource
import socket
import time
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient

from app.db import uploads as rows
from app.db.paging import Selection
from app.domain.storage import partial_folder, upload_path
from app.errors import StorageFullError
from app.main import create_app
from app.services import uploads
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
    assert client.get("/v1/uploads").json()["items"] == [added]
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
