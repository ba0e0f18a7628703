"""One trace from a request over Redis to a Celery worker and its engine, read by a collector that speaks OTLP."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
WAIT_S = 90.0
CELERY = ["celery", "--app", "workers.celery_app", "worker", "--queues", "cpu", "--concurrency", "1"]
CALLERS_TRACE, CALLERS_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """An HTTP server that keeps the spans which it is sent, as dictionaries."""

    def __init__(self):
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self.spans = spans = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                import gzip

                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    (service,) = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
                    for scope in resource.scope_spans:
                        spans.extend(_plain(service, span) for span in scope.spans)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def named(self, name):
        return [span for span in self.spans if span["name"] == name]

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def _plain(service, span):
    values = {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
    return {
        "service": service,
        "name": span.name,
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "status": span.status.code,
        **values,
    }


@pytest.fixture
def collector():
    opened = Collector()
    yield opened
    opened.close()


@contextlib.contextmanager
def process(environment, log, *command):
    with log.open("wb") as stream:
        started = subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, cwd=ROOT, process_group=0, stderr=stream, stdout=stream
        )
    try:
        yield
    finally:
        started.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(timeout=30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def wait_for(condition, what):
    deadline = time.monotonic() + WAIT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not in time"
        time.sleep(0.1)
    return value


def lines(log):
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


@pytest.mark.slow
def test_one_trace_from_the_request_to_the_engine(collector, network, tmp_path, postgres_url, redis_url):
    refs = network(tmp_path / "a.onnx", 4), network(tmp_path / "b.onnx", 8)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "ZOOAUDIT_DATA_DIR": str(tmp_path / "data"),
        "ZOOAUDIT_DATABASE_URL": postgres_url,
        "ZOOAUDIT_BROKER_URL": redis_url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    serve = ("app.cli", "serve", "--port", str(port))
    api_log, worker_log = tmp_path / "api.log", tmp_path / "worker.log"
    with (
        process(environment, api_log, *serve),
        process(environment, worker_log, *CELERY),
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):

        def ready():
            with contextlib.suppress(httpx.TransportError):
                return client.get("/readyz").status_code == 200

        wait_for(ready, "the API")
        asked = {"a": refs[0], "b": refs[1], "dimensions": ["architecture"]}
        traced = {"traceparent": f"00-{CALLERS_TRACE}-{CALLERS_SPAN}-01"}
        address = client.post("/v1/comparisons", json=asked, headers=traced).headers["Location"]
        answer = wait_for(lambda: (a := client.get(address).json())["state"] == "succeeded" and a, "the comparison")
        wait_for(lambda: collector.named("job compare") and len(collector.named("job inspect")) == 2, "its spans")
    (request,) = collector.named("POST /v1/comparisons")
    assert (request["trace"], request["parent"]) == (CALLERS_TRACE, CALLERS_SPAN), "a caller's own trace goes on"
    assert (request["service"], request["http.response.status_code"]) == ("zooaudit-api", 202)
    ours = [span for span in collector.spans if span["trace"] == CALLERS_TRACE]
    by_id = {span["id"]: span for span in ours}
    jobs = [span for span in ours if span["name"].startswith("job ")]
    assert sorted(span["name"] for span in jobs) == ["job compare", "job inspect", "job inspect"]
    assert {span["service"] for span in jobs} == {"zooaudit-worker"}
    assert {by_id[span["parent"]]["name"] for span in jobs} == {"POST /v1/comparisons"}
    assert {span["zooaudit.comparison"] for span in jobs} == {answer["id"]}
    engines = [span for span in ours if span["name"].startswith("engine ")]
    parents = [(span["name"], by_id[span["parent"]]["name"]) for span in engines]
    inspected, compared = ("engine inspect", "job inspect"), ("engine compare", "job compare")
    assert sorted(parents) == [compared, inspected, inspected]
    assert all(span["process.pid"] > 0 for span in engines)
    assert by_id[collector.named("ring")[0]["parent"]]["name"] == "POST /v1/comparisons"
    (said,) = [line for line in lines(api_log) if line["event"] == "request" and line["method"] == "POST"]
    assert (said["trace_id"], said["span_id"]) == (CALLERS_TRACE, request["id"])
    told = {line["span_id"] for line in lines(worker_log) if line["event"] in {"job claimed", "job ended"}}
    assert told == {span["id"] for span in jobs}


@pytest.mark.parametrize("collector_url", [None, "http://127.0.0.1:9"])
def test_without_a_collector_nothing_is_imported_and_without_its_answer_nothing_waits(tmp_path, collector_url):
    code = """
import sys, time
from fastapi.testclient import TestClient
from app import tracing
from app.main import create_app
from app.settings import Settings
tracing.configure("test")
with TestClient(create_app(Settings())) as client:
    started = time.monotonic()
    assert client.get("/livez").status_code == 200
    assert time.monotonic() - started < 2
print("imported:", any(name.startswith("opentelemetry.sdk") for name in sys.modules))
"""
    environment = {**os.environ, "ZOOAUDIT_DATA_DIR": str(tmp_path), "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    if collector_url:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector_url
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"imported: {bool(collector_url)}"
