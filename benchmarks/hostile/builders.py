"""Builders of a team's own zoo that do harm. Their code runs by the operator's choice, in the confined process."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

from hostile import Case

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SOURCES = {
    "never comes back": ("while True: time.sleep(1)", "timeout", True),
    "burns processor time": ("while True: pass", "cpu-limit|timeout", True),
    "crashes": ("ctypes.string_at(0)", "crashed", False),
    "aborts": ("os.abort()", "crashed", False),
    "leaves": ("os._exit(3)", "no-result", False),
    "forks without end": ("while True: os.fork() or time.sleep(60)", "process-limit|memory-limit|cannot-build", True),
    "fills the disk": (
        "block = bytes(2**20)\n    for n in range(2**20):\n        open(f'{scratch}/{n}', 'wb').write(block)",
        "disk-limit",
        True,
    ),
    "writes one large file": (
        "f = open(f'{scratch}/one', 'wb')\n    while True: f.write(bytes(2**20))",
        "file-limit|disk-limit|cannot-build",
        True,
    ),
    "eats memory at once": ("eaten = b'x' * 2**40", "out-of-memory|memory-limit|cannot-build|engine-failed", False),
    "eats memory": (
        "eaten = []\n    while True: eaten.append(os.urandom(2**20) * 16)",
        "memory-limit|out-of-memory|cannot-build",
        True,
    ),
    "calls home": ("socket.create_connection(('127.0.0.1', 9), 2)", "cannot-build", False),
    "writes elsewhere": ("open(canary, 'w')", "cannot-build", False),
    "kills its worker": (
        "os.kill(int(open('/proc/self/status').read().split('PPid:')[1].split()[0]), 9)",
        "cannot-build",
        False,
    ),
    "leaves its group": ("os.setsid()", "cannot-build", False),
    "reads the database": ("open(f'{scratch}/../../zooaudit.db', 'rb')", "cannot-build", False),
    "floods its log": ("while True: os.write(2, bytes(2**20))", "cannot-build", False),
}


def _make(body: str) -> Callable[[Path, Path], None]:
    def make(path: Path, canary: Path) -> None:
        source = f"""
        import ctypes, os, socket, time

        canary, scratch = {str(canary)!r}, os.path.dirname(os.environ["TMPDIR"])


        def build():
        """
        path.write_text(dedent(source) + f"    {body}\n", encoding="utf-8")

    return make


CASES = [
    Case(f"builder {name}", _make(body), frozenset(codes.split("|")), "code", slow)
    for name, (body, codes, slow) in _SOURCES.items()
]
