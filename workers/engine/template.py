"""Where engines come from: one process that forks a fresh child for every request, and ends whatever a child leaves.

``python -m workers.engine.template`` imports the frameworks first; with ``--light`` only what every file needs, which
takes half a second. It serves a Unix socket inherited as standard input. Each message is one byte with
four descriptors: the child's standard input, output and error, and a status pipe, on which the template writes
``{"pid": int}`` after the fork and ``{"status": int}`` (a wait status) when the child has ended. It never loads a model
or runs an operator, so that a fork of it is as good as a new process; the one thread that importing onnxruntime starts
sleeps, and does not exist in the children.

Processes that an engine starts become the template's children when the engine has ended, also those that moved to a
session of their own, and are killed. It ends when its socket closes, and takes everything below it along.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

from workers.engine import isolation
from workers.engine.safety import confinement

if TYPE_CHECKING:
    from collections.abc import Sequence

PRELOADED = (
    "numpy",
    "PIL.Image",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "torch",
    "torchvision",
    "timm",
    "keras",
    "onnxscript",
    "torch.onnx",
    # What the exporter imports at its first use, a fifth of a second's work.
    "networkx",
    "torch._functorch.aot_autograd",
    "torch._inductor.codecache",
    "torch.export._trace",
    "torch.fx.passes._tensorify_python_scalars",
    "torch.onnx._internal.exporter._compat",
    "workers.engine.graph.lowering",
    "workers.engine.zoos.torch_models",
    "workers.engine.operations.inspecting",
    "workers.engine.operations.structure",
    "workers.engine.operations.predict",
    "workers.engine.operations.timing",
    "workers.engine.serve",
)
"""What takes seconds to import; what is not installed is left to fail in the child that needs it."""

DESCRIPTORS = 4
_STATUS = 3
_STRAYS_S = 5.0
"""Time that killed processes get to be gone; one that the kernel holds for longer is not waited for."""

_STRAYS_POLL_S = 0.001


LIGHT = (
    "numpy",
    "onnx",
    "onnx_ir",
    "workers.engine.operations.compare",
    "workers.engine.operations.importing",
    "workers.engine.operations.inspecting",
    "workers.engine.serve",
)
"""What takes a fraction of a second to import, and most operations on files and stored results use."""


def preload(names: Sequence[str]) -> list[str]:
    """Import modules; return the names of those that are not installed."""
    missing = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if "torch.onnx" in names and "torch.onnx" not in missing:
        from workers.engine.graph import shortcuts

        shortcuts.prepare()
    return missing


class Template:
    """The loop of the template process."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, int] = {}
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Fork a child for every message until the socket closes."""
        waking, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(wake)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(waking, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in self._selector.select()}
            if waking in ready:
                os.read(waking, 4096)
                self._reap()
            if self._control in ready and not self._accept():
                self._end_all()
                return

    def _accept(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._control, 1, DESCRIPTORS)
        if not message:
            return False
        gc.freeze()  # children share these pages until a collection would touch them
        pid = os.fork()
        if pid == 0:
            self._child(descriptors)
        with contextlib.suppress(OSError):  # the child has done it, or has ended already
            os.setpgid(pid, pid)
        status = descriptors[_STATUS]
        for descriptor in descriptors[:_STATUS]:
            os.close(descriptor)
        self._children[pid] = status
        _tell(status, {"pid": pid})
        return True

    def _child(self, descriptors: list[int]) -> None:
        """Become an engine on the given descriptors; never returns."""
        code = 1
        try:
            isolation.own_group()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            # The template's own socket sits on 0, and is replaced with the rest of them.
            for target, descriptor in enumerate(descriptors[:_STATUS]):
                os.dup2(descriptor, target)
            for descriptor in (*descriptors, *self._children.values(), self._control.fileno()):
                os.close(descriptor)
            from workers.engine.serve import serve

            code = serve()
        finally:
            os._exit(code)

    def _reap(self) -> None:
        """Tell of the engines that have ended, when nothing that they started is left either."""
        ended: list[tuple[int, int]] = []
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            descriptor = self._children.pop(pid, None)
            if descriptor is not None:
                ended.append((descriptor, status))
        if ended:
            self._end_strays()
        for descriptor, status in ended:
            _tell(descriptor, {"status": status})
            os.close(descriptor)

    def _end_strays(self) -> None:
        """Kill what engines that have ended left behind. Killing one may bring its own children here."""
        deadline = time.monotonic() + _STRAYS_S
        while (strays := set(isolation.children()) - set(self._children)) and time.monotonic() < deadline:
            for pid in strays:
                os.kill(pid, signal.SIGKILL)
            time.sleep(_STRAYS_POLL_S)
            for pid in strays:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def _end_all(self) -> None:
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        self._children.clear()
        self._end_strays()


def _tell(descriptor: int, value: dict[str, int]) -> None:
    # Whoever asked may be gone; its child then dies by its own closed pipe.
    with contextlib.suppress(BrokenPipeError):
        os.write(descriptor, json.dumps(value).encode() + b"\n")


def main(arguments: Sequence[str]) -> None:
    """Serve the socket that is standard input."""
    isolation.own_group()
    confinement.no_core_dumps()
    isolation.adopt_orphans()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # The socket moves off 0, so that a library which reads standard input cannot take a request's byte.
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    light = arguments == ["--light"]
    if not light:
        # Importing takes seconds, in which it would not see that its socket closes.
        isolation.die_with_parent(signal.SIGKILL)
        # Read when the libraries are imported; the children have no network in any case.
        os.environ.update(confinement.OFFLINE)
    missing = preload(LIGHT if light else PRELOADED)
    if missing and not light:
        sys.stderr.write(f"engine template: not installed: {', '.join(missing)}\n")
    isolation.die_with_parent(None)
    Template(control).run()


if __name__ == "__main__":
    main(sys.argv[1:])
