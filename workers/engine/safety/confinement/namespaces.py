"""Namespaces of the measuring process's own, and the privileges that it gives up."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_NEW_MOUNTS, _NEW_USER, _NEW_NETWORK = 0x00020000, 0x10000000, 0x40000000
_BIND, _READ_ONLY, _REMOUNT, _RECURSIVE, _PRIVATE = 1 << 12, 1, 1 << 5, 1 << 14, 1 << 18
_DROP_BOUNDING, _NO_NEW_PRIVILEGES = 24, 38
_READ_ANYTHING = 2
"""CAP_DAC_READ_SEARCH: root reads the files of other users still, as its zoos may be theirs."""
_LAST_CAPABILITY = 63
_CAPABILITIES_VERSION = 0x20080522

_OF_THE_MACHINE = tuple(Path("/proc", name) for name in ("sys", "sysrq-trigger", "irq", "bus"))
"""What root may write of /proc without any capability."""

_libc = ctypes.CDLL(None, use_errno=True)


def own_network() -> tuple[bool, bool]:
    """Move this process into a network without interfaces, by a user namespace where it needs one.

    Returns whether that worked, and whether there is a user namespace. Must be called while the process has one thread.
    """
    if _libc.unshare(_NEW_NETWORK) == 0:
        return True, False
    user, group = os.getuid(), os.getgid()
    if _libc.unshare(_NEW_USER | _NEW_NETWORK) != 0:
        return False, False
    # Keep the identity that files are owned by; the kernel asks for setgroups to be given up first.
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    return True, True


def guard_machine() -> bool:
    """See to it that writing below /proc reaches this process and its own alone; return whether it does.

    The files of other users and of the machine belong to root: a process of another user cannot write them, root needs
    mounts of its own on which they cannot be written.
    """
    if os.getuid() != 0:
        return True
    if _libc.unshare(_NEW_MOUNTS) != 0 or _libc.mount(b"none", b"/", None, _RECURSIVE | _PRIVATE, None) != 0:
        return False
    for path in _OF_THE_MACHINE:
        name = os.fsencode(path)
        if not path.exists():
            continue
        if _libc.mount(name, name, None, _BIND | _RECURSIVE, None) != 0:
            return False
        if _libc.mount(None, name, None, _BIND | _REMOUNT | _READ_ONLY, None) != 0:
            return False
    return True


def give_up_privileges() -> None:
    """Give up all capabilities of this process, and every way to gain some. Raises OSError."""
    for capability in range(_LAST_CAPABILITY + 1):
        if capability != _READ_ANYTHING:
            _libc.prctl(_DROP_BOUNDING, capability, 0, 0, 0)  # fails where there are fewer, or none to drop
    if _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs was refused")
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    kept = 1 << _READ_ANYTHING if os.getuid() == 0 else 0
    data = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)
    if _libc.capset(header, data) != 0:
        # What it never had, it cannot keep.
        _libc.capset(header, (ctypes.c_uint32 * 6)())
