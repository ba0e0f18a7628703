"""Where a message may not go, and how little a receiver can do to its sender."""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
import subprocess
import time

import pytest

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_a_redirect_to_the_metadata_of_a_cloud_is_not_followed(receiver, office):
    look = office.sender()
    receiver.answers = [(302, {"Location": "http://169.254.169.254/latest/meta-data/"})]
    webhook = office.add(receiver.url)
    office.end_one()
    look()
    (attempt,) = office.deliveries(webhook)[0]["attempts"]
    assert (attempt["status"], "redirect, which is not followed" in attempt["error"]) == (302, True)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://localhost:{port}/", "not an address of the public Internet"),
        ("http://2130706433:{port}/", "leads to 127.0.0.1"),
        ("http://0x7f.1:{port}/", "leads to 127.0.0.1"),
        ("http://nosuch.invalid/", "could not be reached"),
    ],
)
def test_names_that_lead_inside_are_refused_when_they_are_resolved(receiver, url, says, office):
    webhook = office.add(url.format(port=receiver.port))
    office.end_one()
    office.sender(webhook_networks=())()
    (attempt,) = office.deliveries(webhook)[0]["attempts"]
    assert says in attempt["error"]
    assert (attempt["status"], receiver.requests) == (None, [])


def test_a_name_is_resolved_once_and_judged_anew_at_every_attempt(receiver, office):
    asked = []

    def resolved(host, port):
        # First it leads to where messages may go, a moment later elsewhere.
        asked.append((host, port))
        return [ipaddress.ip_address("127.0.0.1" if len(asked) == 1 else "127.0.0.2")]

    webhook = office.add(f"http://hooks.test:{receiver.port}/hook")
    receiver.answers = [500]
    office.end_one()
    look = office.sender(resolved=resolved)
    look()
    assert asked == [("hooks.test", receiver.port)]
    assert receiver.requests[0][1]["host"] == f"hooks.test:{receiver.port}"
    office.come_due()
    look()
    assert len(receiver.requests) == 1
    assert "hooks.test leads to 127.0.0.2" in office.deliveries(webhook)[0]["attempts"][1]["error"]


def test_one_forbidden_address_among_several_is_enough(receiver, office):
    both = [ipaddress.ip_address(text) for text in ("127.0.0.1", "169.254.169.254")]
    webhook = office.add(f"http://hooks.test:{receiver.port}/hook")
    office.end_one()
    office.sender(resolved=lambda *_: both)()
    assert "leads to 169.254.169.254" in office.deliveries(webhook)[0]["attempts"][0]["error"]
    assert receiver.requests == []


@pytest.mark.parametrize("name", ["hooks.test", "other.test"])
def test_the_certificate_is_that_of_the_name_not_of_the_address(tmp_path, monkeypatch, name, receive, office):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=hooks.test"]
    subprocess.run([*words, "-addext", "subjectAltName=DNS:hooks.test"], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    seen = []
    context.sni_callback = lambda _socket, server_name, _context: seen.append(server_name)
    with receive(context) as receiver:
        webhook = office.add(f"https://{name}:{receiver.port}/hook")
        office.end_one()
        office.sender(resolved=lambda *_: [ipaddress.ip_address("127.0.0.1")])()
    (delivery,) = office.deliveries(webhook)
    assert seen == [name]
    assert len(receiver.requests) == (name == "hooks.test")
    assert ("CERTIFICATE_VERIFY_FAILED" in (delivery["attempts"][0]["error"] or "")) == (name == "other.test")


def drips(handler):
    """Answer one byte after the other, each soon enough for a time limit that begins anew."""
    with contextlib.suppress(OSError):
        for byte in b"HTTP/1.1 200 OK\r\nx: " + b"y" * 10_000:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.05)


def never_ends(handler):
    """Answer well, with a content that has no end."""
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        for _ in range(200):
            handler.wfile.write(b"x" * 100_000)


def huge_header(handler):
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 5_000_000)


@pytest.mark.parametrize(
    ("answer", "error"),
    [(drips, "did not answer within 1 s"), (huge_header, "could not be reached"), (never_ends, None)],
)
def test_a_receiver_holds_a_sender_neither_long_nor_with_much(receiver, answer, error, office):
    look = office.sender()
    receiver.answers = [answer]
    webhook = office.add(receiver.url)
    office.end_one()
    began = time.monotonic()
    look()
    assert time.monotonic() - began < 5
    (attempt,) = office.deliveries(webhook)[0]["attempts"]
    assert attempt["error"] is None if error is None else error in attempt["error"]
