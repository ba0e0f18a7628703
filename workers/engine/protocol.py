"""What the engine and its caller say to each other.

A request is one JSON document on standard input, ``{"op": str, "scratch": str, "network": bool, "request": {...}}`` and
``"confinement": {"required": bool, "hidden": str, "by_name": str, "limits": {...}}``, all of it optional, as
``safety.confinement`` has it.
The replies are JSON lines on standard output, each with an ``event``:

- ``{"event": "progress", "done": int, "total": int, "message": str}``, any number of them;
- then one ``{"event": "result", "result": {...}, "files": {"role": "path inside scratch"}}``
  or one ``{"event": "error", "class": str, "code": str, "message": str, "evidence"?: {...}}``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TextIO

FailureClass = Literal["usage", "subject", "unsafe", "transient", "memory"]
"""Failures the engine itself can name; ``timeout`` and ``lost`` are seen only from outside."""


class EngineError(Exception):
    """A failure with its class, a stable code and a sentence that says what happened, to what, and what to do.

    ``evidence`` is what was seen, as JSON.
    """

    failure_class: FailureClass = "subject"

    def __init__(self, code: str, message: str, evidence: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.evidence = evidence or {}

    def to_json(self) -> dict[str, Any]:
        """Return this failure as it is written and stored."""
        value = {"class": self.failure_class, "code": self.code, "message": self.message}
        return value | ({"evidence": self.evidence} if self.evidence else {})


class UsageError(EngineError):
    """The request names something that does not exist or does not fit; asking again changes nothing."""

    failure_class = "usage"


class SubjectError(EngineError):
    """The model itself cannot be loaded, exported or run."""

    failure_class = "subject"


class UnsafeError(EngineError):
    """The model's bytes may not be loaded safely."""

    failure_class = "unsafe"


class TransientError(EngineError):
    """Something around the model failed (network, disk); the same request may succeed later."""

    failure_class = "transient"


@dataclass(frozen=True)
class Result:
    """What an operation measured: a JSON value, and the files it left in the scratch folder by role."""

    result: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)


class Progress(Protocol):
    """Reports how far an operation is; callable at any rate."""

    def __call__(self, done: int, total: int, message: str) -> None:
        """Say that ``done`` of ``total`` steps are finished and what is under way."""


def finite(value: Any) -> Any:
    """Replace every float that is not finite by ``{"value": null, "kind": "nan" | "+inf" | "-inf"}``, recursively."""
    if isinstance(value, float) and not math.isfinite(value):
        kind = "nan" if math.isnan(value) else ("+inf" if value > 0 else "-inf")
        return {"value": None, "kind": kind}
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


class Replies:
    """Writes the reply lines; the stream is the engine's real standard output."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def _line(self, value: dict[str, Any]) -> None:
        self._stream.write(json.dumps(finite(value), allow_nan=False) + "\n")
        self._stream.flush()

    def progress(self, done: int, total: int, message: str) -> None:
        """Write a progress line."""
        self._line({"event": "progress", "done": done, "total": total, "message": message})

    def result(self, result: Result) -> None:
        """Write the final line of an operation that succeeded."""
        self._line({"event": "result", "result": result.result, "files": result.files})

    def error(self, error: EngineError) -> None:
        """Write the final line of an operation that failed."""
        self._line({"event": "error"} | error.to_json())
