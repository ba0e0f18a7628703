"""Runs one block in a fresh process forked from this one, and survives whatever happens there."""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import select
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.protocol import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

Message = dict[str, Any]

_PR_SET_PDEATHSIG = 1
_LOOK_AT_MEMORY_EVERY_S = 0.1
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MIB = 2**20


@dataclass
class Outcome:
    """What became of a block: its ``result``, or the ``reason`` there is none; ``stage`` is the last one it named.

    ``seconds`` of wall time, ``cpu_s`` of CPU time.
    """

    seconds: float
    result: Message | None = None
    reason: str | None = None
    stage: Message = field(default_factory=dict)
    cpu_s: float = 0.0


@dataclass(frozen=True)
class Limits:
    """When a block is killed: after ``stall_s`` without a word, after ``wall_s``, or beyond ``memory_bytes``.

    The bytes are what is resident of the child and of this process together, because that is what a whole measurement
    is limited by; None knows no limit.
    """

    stall_s: float
    wall_s: float
    memory_bytes: int | None = None


def run_forked(body: Callable[[Callable[[Message], None]], Message], limits: Limits) -> Outcome:
    """Run ``body(send)`` in a forked child and return its JSON result.

    ``body`` names its stages by ``send({...})``. The child is killed when it breaks a limit. The caller must be single
    threaded and may have imported frameworks, but must not have run them with more than one thread: OpenMP's threads do
    not survive a fork. JSON, not pickle, crosses the pipe: the child has run a stranger's model.
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
        closed = _listen(reading, outcome, _Guard(pid, started, limits))
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
        outcome.reason = death(status)
    return outcome


def _child(body: Callable[[Callable[[Message], None]], Message], writing: int) -> None:
    """Run the body and leave this process; never returns."""

    def send(message: Message) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(writing, data) :]

    code = 1
    try:
        die_with_parent()
        with contextlib.suppress(OSError):
            # Where memory runs out, the system shall end this block, not the session with the blocks before.
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
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


class _Guard:
    """Tells when a child breaks a limit."""

    def __init__(self, pid: int, started: float, limits: Limits) -> None:
        self._pid = pid
        self._started = started
        self._limits = limits
        self._heard = started

    def heard(self) -> None:
        """Note a sign of life."""
        self._heard = time.monotonic()

    def broken(self) -> str | None:
        """Say which limit is broken, or None."""
        now = time.monotonic()
        if now - self._started >= self._limits.wall_s:
            return f"it ran longer than {self._limits.wall_s:.3g} s"
        if now - self._heard >= self._limits.stall_s:
            return f"it gave no sign of life for {self._limits.stall_s:.3g} s"
        most = self._limits.memory_bytes
        if most is not None and (used := _resident_with_children(self._pid) + _resident(os.getpid())) > most:
            return f"it took {used // _MIB} MiB of memory where {most // _MIB} MiB are allowed"
        return None

    def look_again_s(self) -> float:
        """Return the seconds until a limit can be broken next."""
        now = time.monotonic()
        left = min(self._heard + self._limits.stall_s, self._started + self._limits.wall_s) - now
        return max(0.0, min(left, math.inf if self._limits.memory_bytes is None else _LOOK_AT_MEMORY_EVERY_S))


def _resident_with_children(pid: int) -> int:
    """Return the resident bytes of a process and of those that it has forked."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        children = []
    return _resident(pid) + sum(_resident(int(child)) for child in children)


def _resident(pid: int) -> int:
    """Return the resident bytes of a process; 0 once it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _listen(reading: int, outcome: Outcome, guard: _Guard) -> bool:
    """Fill ``outcome`` from the child's lines; False when it broke a limit before it was through."""
    pending = b""
    while True:
        if broken := guard.broken():
            outcome.reason = broken
            return False
        if not select.select([reading], [], [], guard.look_again_s())[0]:
            continue
        chunk = os.read(reading, 1 << 16)
        if not chunk:
            return True
        guard.heard()
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "result" in message:
                outcome.result = message["result"]
            elif "reason" in message:
                outcome.reason = message["reason"]
            else:
                outcome.stage |= message


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that forked it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def death(status: int) -> str:
    """Say how a process with this wait status ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name
        hint = ", as the system does when memory runs out" if number == signal.SIGKILL else ""
        return f"its process was killed by {name}{hint}"
    return f"its process ended with exit code {os.waitstatus_to_exitcode(status)}"
