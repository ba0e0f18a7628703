"""Runs one block in a fresh process forked from this one, and survives whatever happens there."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workers.engine.protocol import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

Message = dict[str, Any]

_PR_SET_PDEATHSIG = 1


@dataclass
class Outcome:
    """What became of a block: its ``result``, or the ``reason`` there is none; ``stage`` is the last one it named.

    ``seconds`` of wall time, ``cpu_s`` of CPU time.
    """

    seconds: float
    cpu_s: float = 0.0
    result: Message | None = None
    reason: str | None = None
    stage: Message = field(default_factory=dict)


def run_forked(body: Callable[[Callable[[Message], None]], Message], *, stall_s: float, limit_s: float) -> Outcome:
    """Run ``body(send)`` in a forked child and return its JSON result.

    ``body`` names its stages by ``send({...})``. The child is killed when it says nothing for ``stall_s`` seconds or
    runs longer than ``limit_s``. The caller must be single threaded and may have imported frameworks, but must not
    have run them with more than one thread: OpenMP's threads do not survive a fork. JSON, not pickle, crosses the
    pipe: the child has run a stranger's model.
    """
    started = time.monotonic()
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _child(body, writing)
    os.close(writing)
    outcome = Outcome(seconds=0.0)
    closed = False
    try:
        closed = _listen(reading, outcome, started, stall_s=stall_s, limit_s=limit_s)
    finally:
        os.close(reading)
        if not closed:
            # What stalled, or what nobody listens to any more, must not run on beside the next block.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
    outcome.seconds = time.monotonic() - started
    outcome.cpu_s = usage.ru_utime + usage.ru_stime
    if outcome.result is None and outcome.reason is None:
        outcome.reason = _death(status)
    return outcome


def _child(body: Callable[[Callable[[Message], None]], Message], writing: int) -> None:
    """Run the body and leave this process; never returns."""

    def send(message: Message) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(writing, data) :]

    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(2, 1)  # standard output carries the engine's replies; what a model prints must not mix in
        send({"result": body(send)})
        code = 0
    except EngineError as error:
        send({"reason": error.message})
    except MemoryError:
        send({"reason": "it ran out of memory"})
    except Exception as error:  # noqa: BLE001 - whatever a model raises is this block's result
        traceback.print_exc()
        send({"reason": f"{type(error).__name__}: {error}"[:500]})
    finally:
        os._exit(code)


def _listen(reading: int, outcome: Outcome, started: float, *, stall_s: float, limit_s: float) -> bool:
    """Fill ``outcome`` from the child's lines; False when it stalled or ran over its limit before it was through."""
    pending = b""
    heard = time.monotonic()
    while True:
        now = time.monotonic()
        left = min(heard + stall_s - now, started + limit_s - now)
        if left <= 0:
            over = now - started >= limit_s
            outcome.reason = (
                f"it ran longer than {limit_s:.3g} s" if over else f"it gave no sign of life for {stall_s:.3g} s"
            )
            return False
        if not select.select([reading], [], [], left)[0]:
            continue
        chunk = os.read(reading, 1 << 16)
        if not chunk:
            return True
        heard = time.monotonic()
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "result" in message:
                outcome.result = message["result"]
            elif "reason" in message:
                outcome.reason = message["reason"]
            else:
                outcome.stage |= message


def _death(status: int) -> str:
    """Say how a process with this wait status ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name
        hint = ", as the system does when memory runs out" if number == signal.SIGKILL else ""
        return f"its process was killed by {name}{hint}"
    return f"its process ended with exit code {os.waitstatus_to_exitcode(status)}"
