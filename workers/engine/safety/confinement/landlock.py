"""Landlock: the kernel's own list of what a process may reach, which no privilege of its user overrides.

The three system calls by number, as no well-kept binding exists. See landlock(7) and
https://docs.kernel.org/userspace-api/landlock.html.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
"""The same numbers on every architecture."""
_VERSION = 1
_PATH_BENEATH = 1

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_OF_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE
_BIND_AND_CONNECT_TCP = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11
_REFER_ABI, _TRUNCATE_ABI, _NETWORK_ABI, _SCOPE_ABI = 2, 3, 4, 6

_libc = ctypes.CDLL(None, use_errno=True)


class _Rights(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def abi() -> int:
    """Return the version of Landlock that the kernel has; 0 where it has none or it is switched off."""
    return max(0, int(_libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))))


def restrict(
    *, writable: Iterable[Path], readable: Iterable[Path], by_name: Iterable[Path], network: bool, version: int
) -> None:
    """Confine this thread, and all that it starts, for ever.

    Args:
        writable: Folders in which everything is allowed, and files that may be written.
        readable: Files and folders that may be read.
        by_name: Folders whose files may be read by whoever knows their names; they cannot be listed.
        network: Whether TCP is left alone (version 4 and later can forbid it).
        version: What ``abi`` said; at least 1.

    Signals and abstract sockets reach only what was confined together (version 6 and later). What is not there is
    left out. The caller must have one thread and no way to gain privileges. Raises OSError.
    """
    writing = _WRITE_FILE | _REMOVE_AND_MAKE
    writing |= (_REFER if version >= _REFER_ABI else 0) | (_TRUNCATE if version >= _TRUNCATE_ABI else 0)
    reading = _READ_FILE | _READ_DIR
    handled = _Rights(writing | reading)
    size = 8
    if version >= _NETWORK_ABI:
        handled.network, size = 0 if network else _BIND_AND_CONNECT_TCP, 16
    if version >= _SCOPE_ABI:
        handled.scoped, size = _ABSTRACT_SOCKETS_AND_SIGNALS, 24
    ruleset = _called(_CREATE, ctypes.byref(handled), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for paths, rights in ((writable, writing | reading), (readable, reading), (by_name, _READ_FILE)):
            for path in paths:
                _allow(ruleset, path, rights)
        _called(_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    with _opened(path) as descriptor:
        if descriptor is None:
            return
        if not path.is_dir():
            rights &= _OF_FILES
        rule = _Beneath(rights, descriptor)
        _called(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0))


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _called(number: int, *arguments: object) -> int:
    value = int(_libc.syscall(number, *arguments))
    if value < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock: {os.strerror(error)}")
    return value
