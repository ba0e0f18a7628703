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

if TYPE_CHECKING:
    from collections.abc import Callable

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
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "malformed-request", f"The engine reads one JSON line with op, scratch, network and request: {error!r}."
        ) from error
    isolation.own_group()
    isolation.die_with(0)
    isolation.limit()
    reached = "open" if network else isolation.leave_network()
    operation: Callable[..., Result] = operations.find(name)
    try:
        result = operation(request, scratch, replies.progress)
    except (EngineError, MemoryError, OSError):
        raise
    except Exception as error:
        if name not in _ON_MODELS:
            raise
        raise SubjectError("model-failed", _sentence(name, request, error)) from error
    return Result(result.result | {"network": reached}, result.files)


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
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return TransientError("disk-full", f"The disk is full ({error}); make room, it is tried again.")
    return SubjectError("engine-failed", f"{type(error).__name__}: {error}"[:_REASON_LENGTH])
