"""The engine's process group and its life, which ends with its parent's."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "KERAS_BACKEND": "torch",
    "PYTHONHASHSEED": "0",
    "CUDA_MODULE_LOADING": "LAZY",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as NVML counts, so that both mean the same GPU
    "HDF5_PLUGIN_PRELOAD": "::",  # a file names the filters of its data; none is loaded that is not built in
}
"""Set before the engine's interpreter starts: pools read these when they are loaded, and once started they stay."""


def own_group() -> None:
    """Become the leader of a process group of its own, so that one signal ends this process and all it starts."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)


def die_with(descriptor: int) -> None:
    """Have the kernel kill this process group as soon as the other end of a pipe closes.

    The pipe must hold nothing more to read. Signal-driven input needs no thread, so that the process can still fork
    safely, and no cooperation of whatever native code runs then (fcntl(2), F_SETOWN and F_SETSIG).
    """
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
    # It may have closed before the kernel was told to watch it.
    if select.select([descriptor], [], [], 0)[0]:
        os.killpg(0, signal.SIGKILL)


def die_with_parent(number: signal.Signals | None) -> None:
    """Have the kernel send this process a signal when the thread that started it ends; None: no more (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0 if number is None else int(number), 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, whatever session or group it moved to (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> list[int]:
    """Return the processes whose parent is this one, ended ones that nobody has waited for among them."""
    found: list[int] = []
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended meanwhile
            found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found
