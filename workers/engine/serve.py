"""Answers one request: reads it, isolates the process, runs the operation, writes the reply lines."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine import isolation, operations
from workers.engine.protocol import EngineError, Replies, Result, SubjectError, TransientError, UsageError
from workers.engine.safety.confinement import Places, confine
from workers.engine.safety.confinement.limits import Limits
from workers.engine.zoos import caches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ON_MODELS = frozenset({"inspect", "structure", "predict", "shard", "latency"})
_REASON_LENGTH = 500


class OutOfMemoryError(EngineError):
    """The process could not get the memory it asked for."""

    failure_class = "memory"


def serve() -> int:
    """Serve the request on standard input in this process; return the exit status.

    Standard output is kept for replies; what libraries and models print goes to standard error. The process dies when
    standard input closes.
    """
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.set_inheritable(stream.fileno(), False)  # noqa: FBT003 - no keyword in the signature
    os.dup2(2, 1)
    replies = Replies(stream)
    try:
        replies.result(_answer(_read_line(0), replies))
    except BaseException as error:  # noqa: BLE001 - every way to fail is one error line
        failure = _failure(error)
        if failure is not error:
            traceback.print_exc()
        replies.error(failure)
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _read_line(descriptor: int) -> bytes:
    """Read up to a line's end and nothing beyond: what is left in the pipe must wake nobody."""
    read = bytearray()
    while not read.endswith(b"\n"):
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            break
        read += chunk
    return bytes(read)


def _answer(line: bytes, replies: Replies) -> Result:
    """Isolate this process as the request wants it, and run the request's operation."""
    try:
        document = json.loads(line)
        name, scratch = document["op"], Path(document["scratch"])
        request: dict[str, Any] = document["request"]
        network = bool(document["network"])
        wanted: dict[str, Any] = document.get("confinement", {})
        allowed = Limits.from_json(wanted.get("limits", {}))
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "malformed-request", f"The engine reads one JSON line with op, scratch, network and request: {error!r}."
        ) from error
    isolation.own_group()
    isolation.die_with(0)
    places = Places(
        scratch,
        writable=tuple(caches.folders()) if network else (),
        hidden=_path(wanted.get("hidden")),
        by_name=_path(wanted.get("by_name")),
        named=tuple(_named(request)),
    )
    in_force = confine(places, allowed, network=network, required=bool(wanted.get("required")))
    operation: Callable[..., Result] = operations.find(name)
    try:
        result = operation(request, scratch, replies.progress)
    except (EngineError, MemoryError, OSError):
        raise
    except Exception as error:
        if name not in _ON_MODELS:
            raise
        raise SubjectError("model-failed", _sentence(name, request, error)) from error
    return Result(result.result | {"confinement": in_force.to_json()}, result.files)


def _path(written: str | None) -> Path | None:
    return None if written is None else Path(written)


def _named(value: Any) -> Iterator[Path]:
    """Yield the files and folders that a request names: what the caller asks for may be read wherever it lies."""
    if isinstance(value, str) and value.startswith("/") and "\0" not in value:
        yield Path(value)
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _named(item)


def _sentence(name: str, request: dict[str, Any], error: BaseException) -> str:
    subject = request.get("subject") or {}
    what = subject.get("ref") or "The engine"
    return f"{what} failed in {name}: {type(error).__name__}: {error}"[:_REASON_LENGTH]


def _failure(error: BaseException) -> EngineError:
    """Give every exception its class and a sentence."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error):
        return OutOfMemoryError(
            "out-of-memory", "The model needs more memory than this process may have; raise the limit or leave it out."
        )
    if isinstance(error, ModuleNotFoundError):
        return UsageError(
            "not-installed",
            f"The package {error.name} is not installed where models are measured; install zooaudit there with its "
            "extra keras: pip install 'zooaudit[keras]'.",
        )
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return SubjectError(
            "file-limit",
            "The model wrote a file larger than it may; raise ZOOAUDIT_ENGINE_DISK_BYTES or leave it out.",
        )
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return TransientError("disk-full", f"The disk is full ({error}); make room, it is tried again.")
    return SubjectError("engine-failed", f"{type(error).__name__}: {error}"[:_REASON_LENGTH])
