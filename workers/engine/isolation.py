"""What the engine's process gives up before it touches a model: network, core dumps, and a life without its parent."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import select
import signal
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "KERAS_BACKEND": "torch",
    "PYTHONHASHSEED": "0",
    "CUDA_MODULE_LOADING": "LAZY",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as NVML counts, so that both mean the same GPU
}
"""Set before the engine's interpreter starts: pools read these when they are loaded, and once started they stay."""

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
"""Tells libraries not to try what would fail, so that they answer from their caches at once."""


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


def limit() -> None:
    """Write no core dumps: a crashing model would leave its whole memory on the disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def leave_network() -> str:
    """Move this process into a network namespace without interfaces; return how far that went.

    ``namespace``: no network at all. ``environment``: the system does not permit it, and only the libraries were told
    to stay offline. Must be called while the process has one thread.
    """
    os.environ.update(OFFLINE)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) == 0:
        return "namespace"
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return "environment"
    # Keep the identity that files are owned by; the kernel asks for setgroups to be given up first.
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    return "namespace"
