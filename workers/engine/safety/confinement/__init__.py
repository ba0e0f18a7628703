"""Confines the measuring process before it touches a model: no network, one writable folder, limits by the kernel.

Everything that an unprivileged process can have is taken, as far as the machine has it; what was in force is part of
every result. Each layer stands alone: a machine without one still has the others.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.protocol import UnsafeError
from workers.engine.safety.confinement import landlock, limits, namespaces, seccomp
from workers.engine.safety.confinement.limits import no_core_dumps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from workers.engine.safety.confinement.limits import Limits

__all__ = ["OFFLINE", "Confinement", "Places", "confine", "no_core_dumps"]

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
"""Tells libraries not to try what would fail, so that they answer from their caches at once."""

_DEVICES = ("null", "zero", "full", "random", "urandom")
_OF_GPU = ("nvidia*", "nvidia-caps/*", "shm")
"""What CUDA writes. A machine without a GPU has no writable memory outside the limits either."""


@dataclass(frozen=True)
class Places:
    """Which part of the file system a measurement sees.

    ``scratch`` is its own. ``writable`` are further folders, made where they are missing. Below ``hidden`` it reads
    nothing but the scratch folder, what is in ``named``, and by name the files in ``by_name``.
    """

    scratch: Path
    writable: tuple[Path, ...] = ()
    hidden: Path | None = None
    by_name: Path | None = None
    named: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Confinement:
    """What was in force. ``network``: ``none``, ``open``, or ``environment``, where only libraries were told.

    ``landlock`` is its version, 0 for none. ``processes`` and ``memory``: the kernel limits them (``kernel``), or only
    the worker does, which looks now and then (``watched``). ``missing`` names the essential layers that are not there.
    """

    network: str
    namespace: bool
    landlock: int
    seccomp: bool
    processes: str
    memory: str
    missing: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON."""
        return asdict(self)


def confine(places: Places, allowed: Limits, *, network: bool, required: bool) -> Confinement:
    """Confine this process, and all that it starts, for ever; return what is in force.

    It must have one thread. Raises UnsafeError when an essential layer is missing and all are ``required``.
    """
    _use_scratch(places.scratch)
    alone = user = False
    if not network:
        os.environ.update(OFFLINE)
        alone, user = namespaces.own_network()
    own_proc = namespaces.guard_machine()
    if _has_gpu():
        allowed = replace(allowed, memory_bytes=None)  # a driver maps more than it uses
    limits.apply(allowed, counted=user)
    namespaces.give_up_privileges()
    version = _restrict_files(places, own_proc=own_proc, network=network)
    filtered = _filter_calls(network=network)
    offline = "none" if alone or filtered else "environment"
    found = {"files": version > 0, "system calls": filtered, "network": network or offline == "none"}
    missing = [name for name, there in found.items() if not there]
    if missing and required:
        raise UnsafeError(
            "not-confined",
            f"Nothing was loaded: this machine cannot confine a measurement ({', '.join(missing)} missing). It needs "
            "Linux 5.13 or later with Landlock and seccomp; set ZOOAUDIT_CONFINEMENT=warn to measure all the same.",
        )
    return Confinement(
        network="open" if network else offline,
        namespace=alone,
        landlock=version,
        seccomp=filtered,
        processes="kernel" if user and allowed.processes is not None else "watched",
        memory="kernel" if allowed.memory_bytes is not None else "watched",
        missing=missing,
    )


def _has_gpu() -> bool:
    return Path("/dev/nvidiactl").exists()


def _restrict_files(places: Places, *, own_proc: bool, network: bool) -> int:
    """Return the version of Landlock that is in force, 0 for none."""
    version = landlock.abi()
    if not version:
        return 0
    devices = [path for pattern in (*_DEVICES, *(_OF_GPU if _has_gpu() else ())) for path in Path("/dev").glob(pattern)]
    proc = [Path("/proc")] if own_proc else []  # a process resets its own peak of memory there
    try:
        landlock.restrict(
            writable=[places.scratch, *_made(places.writable), *devices, *proc],
            readable=_readable(places),
            by_name=[places.by_name] if places.by_name else [],
            network=network,
            version=version,
        )
    except OSError:
        return 0
    return version


def _filter_calls(*, network: bool) -> bool:
    """Say whether system calls are filtered."""
    if not seccomp.available():
        return False
    try:
        seccomp.restrict(network=network)
    except OSError:
        return False
    return True


def _use_scratch(scratch: Path) -> None:
    """Have libraries keep their temporary files and caches in the scratch folder."""
    folder = scratch / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(folder)
    os.environ["CUDA_CACHE_PATH"] = str(folder / "cuda")
    tempfile.tempdir = None  # found anew from the environment


def _made(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def _readable(places: Places) -> Iterator[Path]:
    """Yield what may be read: everything, or everything around the hidden folder, as rules can only allow."""
    yield from places.named
    if places.hidden is None:
        yield Path("/")
        return
    hidden = places.hidden.resolve()
    for above in hidden.parents:
        for entry in os.scandir(above):
            path = Path(entry.path)
            # A link's rule would be about what it leads to, which has its own place.
            if not entry.is_symlink() and path != hidden and path not in hidden.parents:
                yield path
