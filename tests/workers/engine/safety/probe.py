"""Confines itself as an engine does, tries what is forbidden, and prints what became of each attempt as JSON."""

import codecs
import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

from workers.engine.safety.confinement import Places, confine
from workers.engine.safety.confinement.limits import Limits

base = Path(sys.argv[1])
port, user, owner = int(sys.argv[2]), int(sys.argv[3]), os.getppid()
scratch, data = base / "data" / "scratch", base / "data"
libc = ctypes.CDLL(None, use_errno=True)
for encoding in ("ascii", "idna"):
    codecs.lookup(encoding)  # the other user may not read where Python lies
if user != os.getuid():
    os.setgid(user)
    os.setuid(user)
    libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, as after an exec: its own files in /proc are its own again
in_force = confine(
    Places(scratch, hidden=data, by_name=data / "files", named=(data / "asked.onnx",)),
    Limits(memory_bytes=2**28, cpu_s=60, file_bytes=2**20, processes=40),
    network=False,
    required=True,
)


def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def write(path):
    path.write_bytes(b"x")


def fork_bomb():
    while True:
        if os.fork() == 0:
            signal.pause()


attempts = {
    "writes its scratch": lambda: write(scratch / "own"),
    "renames in its scratch": lambda: (scratch / "own").rename(scratch / "tmp" / "own"),
    "writes beside it": lambda: write(base / "beside"),
    "writes the temporary folder": lambda: write(Path("/tmp/zooaudit-probe")),  # noqa: S108
    "writes shared memory": lambda: write(Path("/dev/shm/zooaudit-probe")),  # noqa: S108
    "truncates a file": lambda: os.truncate(base / "outside", 0),
    "removes a file": (base / "outside").unlink,
    "links a file into its scratch": lambda: os.link(base / "outside", scratch / "link"),
    "reads the database": (data / "zooaudit.db").read_bytes,
    "lists the stored files": lambda: list((data / "files").iterdir()),
    "reads a stored file by its name": (data / "files" / "digest").read_bytes,
    "reads what was asked for": (data / "asked.onnx").read_bytes,
    "reads what lies beside the data": (base / "outside").read_bytes,
    "reads its owner's environment": lambda: Path(f"/proc/{owner}/environ").read_bytes(),
    "writes the machine's settings": lambda: write(Path("/proc/sys/kernel/core_pattern")),
    "resets its own peak of memory": lambda: Path("/proc/self/clear_refs").write_text("5"),
    "connects": lambda: socket.create_connection(("127.0.0.1", port), timeout=2),
    "sends a datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", port)),
    "reaches a unix socket": lambda: socket.socket(socket.AF_UNIX).connect(str(base / "socket")),
    "sends to a unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(
        b"x", str(base / "socket")
    ),
    "talks to its own child": socket.socketpair,
    "kills its owner": lambda: os.kill(owner, signal.SIGTERM),
    "traces its owner": lambda: call(101, 16, owner, 0, 0),
    "leaves its group": os.setsid,
    "makes a namespace": lambda: call(272, 0x10000000),
    "makes an io_uring": lambda: call(425, 1, ctypes.create_string_buffer(256)),
    "becomes another user": lambda: os.setuid(1234 if os.getuid() != 1234 else 0),
    "writes a large file": lambda: (scratch / "large").write_bytes(bytes(2**21)),
    "takes much memory": lambda: bytearray(2**29),
    "starts a program": lambda: subprocess.run(["true"], check=True),
}

told = {"in_force": in_force.to_json(), "cpu": resource.getrlimit(resource.RLIMIT_CPU)[0]}
for name, attempt in attempts.items():
    try:
        attempt()
        told[name] = "done"
    except (OSError, MemoryError) as error:
        told[name] = type(error).__name__
(base / "outside").chmod(0o777)
if in_force.processes == "kernel":
    try:
        fork_bomb()
    except OSError as error:
        told["makes processes without end"] = type(error).__name__
sys.stdout.write(json.dumps(told))
sys.stdout.flush()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.killpg(0, signal.SIGKILL)
