"""Traces from a request through the queue to its jobs and their engines, where a collector is configured.

The standard variables of OpenTelemetry configure them; without ``OTEL_EXPORTER_OTLP_ENDPOINT`` nothing is imported, and
every function here does nothing. Only a process's own entry calls ``configure``.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

    from opentelemetry.sdk.trace import TracerProvider

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_HEADER = "traceparent"

_provider: TracerProvider | None = None

_log = structlog.get_logger(__name__)


def configure(service: str) -> None:
    """Begin to send this process's spans, over HTTP with protobuf; ``OTEL_SERVICE_NAME`` goes before ``service``."""
    global _provider  # noqa: PLW0603 - one of the whole process, as the logs are
    if _provider is not None or not any(os.environ.get(name) for name in ENDPOINTS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        _log.warning("no traces: a collector is configured, but OpenTelemetry is missing; install 'zooaudit[otel]'")
        return
    resource = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME") or service})
    _provider = TracerProvider(resource=resource)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))


def end() -> None:
    """Send what was not sent yet, and no more."""
    global _provider  # noqa: PLW0603 - as above
    if _provider is not None:
        _provider.shutdown()
        _provider = None


@contextmanager
def span(
    name: str, *, kind: str = "INTERNAL", parent: str | None = None, attributes: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Time what is done meanwhile. An exception that leaves it is recorded and makes the span an error.

    ``kind`` is a name of ``SpanKind``; ``parent`` a ``traceparent`` (W3C) to go on from instead of the present span.
    """
    if _provider is None:
        yield
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    context = None if parent is None else TraceContextTextMapPropagator().extract({_HEADER: parent})
    tracer = _provider.get_tracer("zooaudit")
    with tracer.start_as_current_span(name, context, SpanKind[kind], attributes=dict(attributes or {})):
        yield


def named(name: str, **attributes: Any) -> None:  # noqa: ANN401 - values of attributes
    """Give the present span another name, and attributes that were not known at its beginning."""
    if _provider is not None:
        from opentelemetry.trace import get_current_span  # noqa: PLC0415

        get_current_span().update_name(name)
        get_current_span().set_attributes(attributes)


def failed(reason: str) -> None:
    """Make the present span an error."""
    if _provider is not None:
        from opentelemetry.trace import StatusCode, get_current_span  # noqa: PLC0415

        get_current_span().set_status(StatusCode.ERROR, reason)


def context() -> str | None:
    """Return the ``traceparent`` of the present span, to go on from elsewhere; None when there is none."""
    if _provider is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(_HEADER)


def log_ids(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the present trace and span to a line of the log; a processor of structlog."""
    if (present := context()) is not None:
        _, line["trace_id"], line["span_id"], _ = present.split("-")
    return line
