"""A post office: webhooks on a real database, real HTTP servers on loopback, a real sender."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.server
import ipaddress
import threading
import time
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import update

from app.db import comparisons
from app.db.clock import now
from app.db.paging import Selection
from app.db.tables import Comparison
from app.db.webhook_tables import WebhookDelivery
from app.domain.ids import new_id
from app.services import webhooks
from app.services.submission import Caller
from workers.sender import Sender

WAIT_S = 30.0
SCOPE = {"dimensions": ["architecture"], "dataset": None, "policy": {"name": "default"}, "errors": {}}


class Receiver:
    """A real HTTP server that keeps what it is sent and answers what it is told to: a status with headers."""

    def __init__(self, context=None):
        self.answers, self.requests = [], []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                answer = receiver.answers.pop(0) if receiver.answers else 204
                if callable(answer):
                    answer = answer(self)
                if answer is None:
                    return
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Office:
    """Webhooks, what they are told of, and a sender."""

    def __init__(self, settings, database):
        self.settings, self.database = settings, database
        self.stack = contextlib.ExitStack()

    def add(self, url, events=("comparison.ended",)):
        """Store a webhook."""
        with self.database.write() as session:
            request = {"url": url, "events": list(events), "description": "", "enabled": True}
            return webhooks.create(session, self.settings, request, Caller())

    def end_one(self, *, commit=True):
        """End a comparison as a worker does; return its id."""
        comparison_id = new_id()
        with self.database.write() as session:
            session.add(Comparison(id=comparison_id, state="queued", a_ref="x:net", b_ref="y:net", scope=SCOPE))
        with contextlib.suppress(InterruptedError), self.database.write() as session:
            assert comparisons.fail(session, comparison_id, {"class": "subject", "code": "c", "message": "m"})
            if not commit:
                raise InterruptedError
        return comparison_id

    def sender(self, resolved=None, **values):
        """Make a sender with other settings; return its look, which waits for what it began."""
        extra = {} if resolved is None else {"resolved": resolved}
        sender = Sender(self.settings.model_copy(update=values), self.database, **extra)
        self.stack.callback(sender.close)

        def look():
            sender.look()
            deadline = time.monotonic() + WAIT_S
            while sender._busy:
                assert time.monotonic() < deadline
                time.sleep(0.005)

        return look

    def come_due(self):
        """Make what is to be tried again due."""
        with self.database.write() as session:
            pending = update(WebhookDelivery).where(WebhookDelivery.state == "pending")
            session.execute(pending.values(next_attempt_at=now() - timedelta(seconds=1)))

    def deliveries(self, webhook):
        """Return the deliveries of a webhook as the API shows them."""
        with self.database.read() as session:
            return webhooks.deliveries(session, uuid.UUID(webhook["id"]), Selection())["items"]

    def show(self, webhook):
        """Return a webhook as the API shows it."""
        with self.database.read() as session:
            return webhooks.show(session, uuid.UUID(webhook["id"]))

    @staticmethod
    def verified(secret, headers, body):
        """Check a message as a receiver does, by the specification alone."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        signature = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert abs(time.time() - int(headers["webhook-timestamp"])) < 60
        return signature in headers["webhook-signature"].split(" ")


@pytest.fixture
def office(settings, database):
    told = {
        "webhook_networks": (ipaddress.ip_network("127.0.0.1/32"),),
        "webhook_http": True,
        "webhook_timeout_s": 1.0,
        "public_url": "https://audits.example.com/",
    }
    opened = Office(settings.model_copy(update=told), database)
    with opened.stack:
        yield opened


@pytest.fixture
def receive():
    """Return the class of receivers, a context."""
    return Receiver


@pytest.fixture
def receiver():
    with Receiver() as opened:
        yield opened
