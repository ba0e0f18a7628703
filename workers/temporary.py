"""Where a worker and all that it starts keep their temporary files: one folder a worker, removed with it.

A folder lies in ``scratch`` of the data folder. Its worker holds a lock on a file in it for as long as it or a process
forked from it lives, so that what a killed one has left can be told, on whichever machine that was.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import IO

_PREFIX = "worker-"
_LOCK = "lock"


def use_own(data_dir: Path) -> Path:
    """Have this process and its children keep temporary files in a new folder until it exits; return the folder."""
    sweep(data_dir)
    folder, lock = _make(data_dir / "scratch")
    # The templates and what Celery's pool imports read the variable, this process the other.
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    # Celery's processes are forked from this one, and end without what others do at their exit.
    atexit.register(_remove, folder, lock, os.getpid())
    return folder


def sweep(data_dir: Path) -> None:
    """Remove the folders of workers that live no more."""
    for folder in (data_dir / "scratch").glob(f"{_PREFIX}*"):
        # Its worker, or another sweep, may remove it at any moment.
        with contextlib.suppress(OSError), (folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def _make(root: Path) -> tuple[Path, IO[str]]:
    """Return a new folder and the open file by which it is locked."""
    root.mkdir(parents=True, exist_ok=True)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
        # A sweep may see the folder before it is locked: it then removes it, and there is another.
        with contextlib.suppress(FileNotFoundError):
            lock = (folder / _LOCK).open("a")
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(lock.fileno()), (folder / _LOCK).stat()):
                return folder, lock


def _remove(folder: Path, lock: IO[str], owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()
