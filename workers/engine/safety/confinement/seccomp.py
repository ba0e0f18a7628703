"""A filter of system calls: what no model has to ask of the kernel is refused there.

Everything is allowed but a list. A verdict that hangs on the number alone is kept by the kernel in a bitmap (since
Linux 5.11), so that calls which are allowed cost nothing that can be measured.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_SET_MODE_FILTER, _FLAG_SPEC_ALLOW = 1, 1 << 2
"""Without the flag, kernels before 5.16 slow the whole process down against speculative store bypass."""

_LOAD, _AND, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x45, 0x35, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
_LOCAL, _DATAGRAMS, _KINDS = 1, 2, 0xF
"""Of socket(2): the family AF_UNIX; the type SOCK_DGRAM, which reaches others unconnected; the bits of types."""
_X32 = 0x40000000
_NEW_NAMESPACES = 0x7E020000
"""The flags of clone(2) that make namespaces: the process could be privileged inside."""

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

_REFUSED = {
    # Other processes, their memory and their descriptors.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    # Leaving the process group, which is what is killed at the end.
    "setsid": (112, 157),
    "setpgid": (109, 154),
    # Doors to much of the kernel, and ways around this filter.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "open_by_handle_at": (304, 265),
    # Namespaces and mounts.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    # The machine.
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "syslog": (103, 116),
}
"""Number on x86_64 and on aarch64."""

_DONE_AND_NOT_DONE = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
}
"""Owner, mode and times of any file of the same user, which Landlock does not guard. They report success and change
nothing: linkers and copies set them and give up where that fails."""

_SOCKET, _CONNECT = (41, 198), (42, 203)
_CLONE, _CLONE3 = (56, 220), (435, 435)

_libc = ctypes.CDLL(None, use_errno=True)


def available() -> bool:
    """Whether the filter knows this machine's system calls."""
    return platform.machine() in _ARCHITECTURES


def restrict(*, network: bool) -> None:
    """Filter the calls of this thread and of all that it starts, for ever.

    Without ``network`` there are local sockets only, which cannot connect: CUDA listens on one, and pairs of connected
    sockets remain. The caller must have given up gaining privileges. Raises OSError.
    """
    machine, column = _ARCHITECTURES[platform.machine()]
    program = _program(machine, column, network=network)
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code, len(code))

    class _Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))

    given = _Program(len(program), ctypes.addressof(buffer))
    seccomp = ctypes.c_long((317, 277)[column])
    if _libc.syscall(seccomp, _SET_MODE_FILTER, _FLAG_SPEC_ALLOW, ctypes.byref(given)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp: {os.strerror(error)}")


def _program(machine: int, column: int, *, network: bool) -> list[tuple[int, int, int, int]]:
    """Return the filter as (code, jump if true, jump if not, value); jumps count from the next step."""
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, machine),
        (_RETURN, 0, 0, _KILL),  # the calls of a 32-bit program have other numbers
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
    ]
    answers = [(numbers[column], errno.EPERM) for numbers in _REFUSED.values()]
    answers += [(number, 0) for numbers in _DONE_AND_NOT_DONE.values() if (number := numbers[column]) is not None]
    answers.append((_CLONE3[column], errno.ENOSYS))  # its flags are in memory, out of sight; libraries then use clone
    if not network:
        answers.append((_CONNECT[column], errno.EACCES))
    for number, answer in answers:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERROR | answer)]
    if not network:
        steps += [
            (_EQUAL, 0, 7, _SOCKET[column]),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_EQUAL, 0, 4, _LOCAL),
            (_LOAD, 0, 0, _SECOND_ARGUMENT),
            (_AND, 0, 0, _KINDS),
            (_EQUAL, 1, 0, _DATAGRAMS),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _ERROR | errno.EACCES),
        ]
    return [
        *steps,
        (_EQUAL, 0, 3, _CLONE[column]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        (_RETURN, 0, 0, _ERROR | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
