"""Watches an engine: reads its replies and ends it when it breaks a limit or is not wanted any more."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]  # it ships no types

from app.domain.states import FailureClass
from workers.engines import kill_group
from workers.failures import AttemptFailedError, CancelledError, StoppingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.engines import RunningEngine

_POLL_S = 0.05
_LOOK_EVERY_S = 0.2
_GRACE_S = 2.0
_LONGEST_REPLY = 256 * 2**20
_LONGEST_LOG = 64 * 2**20
_CHUNK = 1 << 20
_MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """What an engine may use, all its processes together but for ``cpu_s``, the processor time of each.

    ``memory_bytes`` is resident memory, ``disk_bytes`` what lies in the scratch folder; ``processes`` counts threads.
    """

    wall_s: float
    memory_bytes: int
    cpu_s: float
    disk_bytes: int
    processes: int

    def of_a_process(self) -> dict[str, Any]:
        """Return the limits that the engine has the kernel keep, as its request has them."""
        return {
            "memory_bytes": self.memory_bytes,
            "cpu_s": self.cpu_s,
            "file_bytes": self.disk_bytes,
            "processes": self.processes,
        }


@dataclass(frozen=True)
class Reply:
    """An operation's result, and the files that it left in the scratch folder, by role."""

    result: dict[str, Any]
    files: dict[str, Path] = field(default_factory=dict)


class Watch:
    """One engine from its start to its end; ``what`` names the subject in messages."""

    def __init__(self, engine: RunningEngine, what: str, limits: Limits, scratch: Path, stderr: Path) -> None:
        self._engine = engine
        self._what = what
        self._limits = limits
        self._scratch = scratch.resolve()
        self._stderr = stderr
        self._pending = b""
        self._final: dict[str, Any] | None = None
        self._looked = 0.0

    def wait(self, *, check: Callable[[], None], report: Callable[[dict[str, Any]], None]) -> Reply:
        """Return the engine's reply; whatever happens, nothing of its process group is left afterwards.

        ``check`` is called often and raises to end the engine; ``report`` gets its progress. Raises
        AttemptFailedError when the engine fails, dies, or breaks a limit, and what ``check`` raises.
        """
        deadline = time.monotonic() + self._limits.wall_s
        try:
            while self._final is None:
                check()
                self._read(report)
                if self._final is None and self._engine.poll() is not None:
                    self._read(report)  # what it wrote before it ended
                    break
                if time.monotonic() > deadline:
                    raise self._over_time()
                self._look()
        except (CancelledError, StoppingError):
            self._end_gently()
            raise
        finally:
            self._engine.close()
        return self._outcome()

    def _read(self, report: Callable[[dict[str, Any]], None]) -> None:
        """Take in what has arrived on the engine's output, waiting a moment for more."""
        if not select.select([self._engine.stdout], [], [], _POLL_S)[0]:
            return
        while True:
            try:
                chunk = os.read(self._engine.stdout, _CHUNK)
            except BlockingIOError:
                return
            if not chunk:
                time.sleep(_POLL_S)  # closed, but not yet ended: do not spin
                return
            *lines, self._pending = (self._pending + chunk).split(b"\n")
            if len(self._pending) > _LONGEST_REPLY:
                raise self._garbage(self._pending)
            for line in lines:
                self._take(line, report)

    def _take(self, line: bytes, report: Callable[[dict[str, Any]], None]) -> None:
        try:
            value = _clean(json.loads(line))
            event = value["event"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise self._garbage(line) from None
        if event == "progress":
            report({key: value.get(key) for key in ("done", "total", "message")})
        elif event in {"result", "error"}:
            self._final = value
        else:
            raise self._garbage(line)

    def _look(self) -> None:
        """Check memory, processes, the scratch folder and the size of the log, now and then."""
        now = time.monotonic()
        if now - self._looked < _LOOK_EVERY_S:
            return
        self._looked = now
        used, tasks = resident_bytes_and_tasks(self._engine.pid)
        if used > self._limits.memory_bytes:
            raise AttemptFailedError(
                FailureClass.MEMORY,
                "memory-limit",
                f"{self._what} used {used // _MIB} MiB of memory where {self._limits.memory_bytes // _MIB} MiB are "
                "allowed, and was stopped; raise ZOOAUDIT_ENGINE_MEMORY_BYTES or leave this model out.",
            )
        if tasks > self._limits.processes:
            raise AttemptFailedError(
                FailureClass.SUBJECT,
                "process-limit",
                f"{self._what} had {tasks} processes and threads where {self._limits.processes} are allowed, and was "
                "stopped; raise ZOOAUDIT_ENGINE_PROCESSES or leave this model out.",
            )
        left = bytes_below(self._scratch)
        if left > self._limits.disk_bytes:
            raise AttemptFailedError(
                FailureClass.SUBJECT,
                "disk-limit",
                f"{self._what} left {left // _MIB} MiB in its scratch folder where {self._limits.disk_bytes // _MIB} "
                "MiB are allowed, and was stopped; raise ZOOAUDIT_ENGINE_DISK_BYTES or leave this model out.",
            )
        if self._stderr.stat().st_size > _LONGEST_LOG:
            os.truncate(self._stderr, 0)

    def _end_gently(self) -> None:
        kill_group(self._engine.pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        while self._engine.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def _outcome(self) -> Reply:
        if self._final is None:
            raise self._death(self._engine.poll())
        value = self._final
        try:
            if value["event"] == "error":
                failure = FailureClass(value["class"])
                evidence = dict(value.get("evidence") or {})
                raise AttemptFailedError(failure, str(value["code"]), str(value["message"]), evidence)
            files = {role: self._scratch / name for role, name in value["files"].items()}
            result = dict(value["result"])
        except (KeyError, ValueError, TypeError, AttributeError):
            raise self._garbage(json.dumps(value).encode()) from None
        for role, path in files.items():
            # The process has run a stranger's model: a link would have any readable file stored as a result.
            if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(self._scratch):
                raise AttemptFailedError(
                    FailureClass.SUBJECT,
                    "file-missing",
                    f"{self._what} was measured, but its file {role!r} is no file of its scratch folder; try again.",
                )
        return Reply(result, files)

    def _over_time(self) -> AttemptFailedError:
        return AttemptFailedError(
            FailureClass.TIMEOUT,
            "timeout",
            f"{self._what} was not done after {self._limits.wall_s:g} s and was stopped; raise "
            "ZOOAUDIT_ENGINE_TIMEOUT_S or leave this model out.",
        )

    def _garbage(self, line: bytes) -> AttemptFailedError:
        return AttemptFailedError(
            FailureClass.SUBJECT,
            "garbled-reply",
            f"{self._what} wrote into the engine's replies ({line[:80]!r}), so nothing it measured can be trusted; "
            "leave this model out.",
        )

    def _death(self, status: int | None) -> AttemptFailedError:
        log = self._tail()
        if status == -signal.SIGKILL:
            return AttemptFailedError(
                FailureClass.MEMORY,
                "killed",
                f"{self._what} had its measuring process killed with SIGKILL from outside, as the system does when "
                f"memory runs out; give it more memory or leave it out.{log}",
            )
        if status == -signal.SIGXCPU:
            return AttemptFailedError(
                FailureClass.TIMEOUT,
                "cpu-limit",
                f"{self._what} took more than {self._limits.cpu_s:g} s of processor time and was stopped; raise "
                "ZOOAUDIT_ENGINE_CPU_S or leave this model out.",
            )
        if status is not None and status < 0:
            name = signal.Signals(-status).name
            return AttemptFailedError(
                FailureClass.SUBJECT,
                "crashed",
                f"{self._what} killed the measuring process with {name}; the model, or the runtime on it, is "
                f"defective.{log}",
            )
        return AttemptFailedError(
            FailureClass.SUBJECT,
            "no-result",
            f"{self._what} ended the measuring process with exit status {status} before there was a result.{log}",
        )

    def _tail(self) -> str:
        """Return the last line that the process printed, as a hint."""
        text = self._stderr.read_bytes()[-4000:].decode("utf-8", "replace").replace("\0", "")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f" It last printed: {lines[-1][:200]}" if lines else ""


def resident_bytes_and_tasks(pgid: int) -> tuple[int, int]:
    """Resident memory of a group leader and its descendants, and their processes and threads; 0 when they are gone."""
    try:
        leader = psutil.Process(pgid)
        members = [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0, 0
    used = tasks = 0
    for process in members:
        try:
            used += process.memory_info().rss
            tasks += process.num_threads()
        except psutil.NoSuchProcess:
            continue
    return used, tasks


def bytes_below(folder: Path) -> int:
    """Bytes on the disk of the files in a folder and the folders in it; what goes while it is read counts or not."""
    total, waiting = 0, [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                else:
                    total += 512 * entry.stat(follow_symlinks=False).st_blocks
    return total


def _clean(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Replace what no database stores as text: zero bytes and unpaired surrogates, which a model's message may hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value
