"""Starting the engine: as a fork of a template, which has the frameworks imported or is light."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Protocol

import structlog

from workers.engine.isolation import ENVIRONMENT

if TYPE_CHECKING:
    from pathlib import Path

_log = structlog.get_logger()

WARM = frozenset({"inspect", "structure", "predict", "shard", "latency"})
"""Operations that run models; the others start faster without a framework."""

_FILE_ZOOS = frozenset({"onnx", "file", "upload"})
"""Zoos whose models are files, which no framework has to build."""

_FOR_ENGINES = frozenset({"ZOOAUDIT_CACHE_DIR", "ZOOAUDIT_ONNX_HUB_URL"})
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY", re.IGNORECASE)

_EXIT_WAIT_S = 10.0


class RunningEngine(Protocol):
    """An engine at work on one request. ``pid`` is also its process group."""

    pid: int
    stdout: int
    """Descriptor of its reply lines, not blocking."""

    def poll(self) -> int | None:
        """Return the exit status as ``subprocess`` has it (negative: the signal), or None while it runs."""

    def close(self) -> None:
        """Kill it with all that it has started, and close every pipe."""


class Engines(Protocol):
    """A way to start engines."""

    def start(self, document: dict[str, Any], stderr: Path) -> RunningEngine:
        """Start an engine on one request; what it prints goes to the file ``stderr``."""


def kill_group(pgid: int, number: signal.Signals) -> None:
    """Send a signal to a process group that may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def _environment(*, network: bool) -> dict[str, str]:
    """Return an engine's environment: without what is the service's own, and secrets only for downloads."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if (name in _FOR_ENGINES or not name.startswith("ZOOAUDIT_")) and (network or not _SECRET.search(name))
    }
    return {**kept, **ENVIRONMENT}


def _send(descriptor: int, document: dict[str, Any]) -> None:
    """Write the request's line. An engine that is gone already is noticed by its exit."""
    data = json.dumps(document).encode() + b"\n"
    with contextlib.suppress(BrokenPipeError):
        while data:
            data = data[os.write(descriptor, data) :]


class TemplateDiedError(Exception):
    """The template ended before it could fork the engine."""


class _Forked:
    """An engine forked from the template; the template reaps it and reports how it ended."""

    def __init__(self, control: socket.socket, document: dict[str, Any], stderr: IO[bytes]) -> None:
        child_in, self._stdin = os.pipe()
        self.stdout, child_out = os.pipe()
        self._status, child_status = os.pipe()
        given = [child_in, child_out, stderr.fileno(), child_status]
        self._pending = b""
        self._exit: int | None = None
        self.pid = 0
        try:
            socket.send_fds(control, [b"x"], given)
        except OSError as error:
            self._close_pipes()
            raise TemplateDiedError(str(error)) from error
        finally:
            for descriptor in (child_in, child_out, child_status):
                os.close(descriptor)
        started = self._next_status()
        if started is None:
            self._close_pipes()
            raise TemplateDiedError("it ended while it was asked to fork")
        self.pid = started["pid"]
        os.set_blocking(self._status, False)
        os.set_blocking(self.stdout, False)
        _send(self._stdin, document)

    def _next_status(self) -> dict[str, int] | None:
        """Return the template's next message; None at the end. Raises BlockingIOError when there is none yet."""
        while b"\n" not in self._pending:
            chunk = os.read(self._status, 4096)
            if not chunk:
                return None
            self._pending += chunk
        line, self._pending = self._pending.split(b"\n", 1)
        message: dict[str, int] = json.loads(line)
        return message

    def poll(self) -> int | None:
        if self._exit is None:
            try:
                message = self._next_status()
            except BlockingIOError:
                return None
            # Without the template nobody will ever tell; what it forked is then of no more use.
            self._exit = -signal.SIGKILL if message is None else os.waitstatus_to_exitcode(message["status"])
        return self._exit

    def close(self) -> None:
        kill_group(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + _EXIT_WAIT_S
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        # Once more for what the engine forked between the two: its group lives as long as a member does.
        kill_group(self.pid, signal.SIGKILL)
        self._close_pipes()

    def _close_pipes(self) -> None:
        for descriptor in (self._stdin, self.stdout, self._status):
            os.close(descriptor)


class TemplateEngines:
    """Forks engines from one template, which is started at first use and again when it has died.

    A ``light`` one imports no framework, and is there at once. Engines have a ``network`` only for downloads.
    """

    def __init__(self, *, light: bool = False, network: bool = False) -> None:
        self._network = network
        self._words = [sys.executable, "-m", "workers.engine.template", *(["--light"] if light else [])]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self, document: dict[str, Any], stderr: Path) -> RunningEngine:
        """Start an engine on one request; what it prints goes to the file ``stderr``. Safe from several threads."""
        with stderr.open("ab") as file:
            with self._lock:
                control = self._ready()
            try:
                return _Forked(control, document, file)
            except TemplateDiedError as error:
                _log.warning("engine template died", reason=str(error))
            with self._lock:
                if self._control is control:  # no other thread has replaced it meanwhile
                    self._stop()
                control = self._ready()
            return _Forked(control, document, file)

    @property
    def pid(self) -> int | None:
        """Process of the template, once there is one."""
        return self._process.pid if self._process else None

    def _ready(self) -> socket.socket:
        if self._process is None or self._control is None or self._process.poll() is not None:
            self._stop()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - words of this program, no shell
                    self._words,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env=_environment(network=self._network),
                    process_group=0,
                )
            self._control = ours
        return self._control

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            # It ends when its socket closes, at once unless it is still importing.
            kill_group(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End the template. Engines that it forked must have ended."""
        with self._lock:
            self._stop()


def _needs_framework(request: dict[str, Any]) -> bool:
    """Whether a model has to be built; starting the template takes longer than all the rest of a small file."""
    subjects = [entry["subject"] for entry in request.get("entries", ())] or [request.get("subject", {})]
    return any(subject.get("zoo") not in _FILE_ZOOS for subject in subjects)


class EngineChoice:
    """Starts each operation the way that is fastest for it."""

    def __init__(self) -> None:
        self.template = TemplateEngines()
        self._light = TemplateEngines(light=True)
        self._online = TemplateEngines(light=True, network=True)

    def start(self, document: dict[str, Any], stderr: Path) -> RunningEngine:
        """Start an engine on one request; what it prints goes to the file ``stderr``."""
        warm = document["op"] in WARM and (self.template.pid is not None or _needs_framework(document["request"]))
        if document["network"]:
            return self._online.start(document, stderr)
        return (self.template if warm else self._light).start(document, stderr)

    def close(self) -> None:
        """End the templates. Engines that they forked must have ended."""
        for template in (self.template, self._light, self._online):
            template.close()
