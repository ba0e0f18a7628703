"""What is done to a service while it works, at random but the same for the same seed."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]  # it ships no types
import redis

from chaos import site as sites

if TYPE_CHECKING:
    from random import Random

    from chaos.site import Member, Site

WEIGHTS = {
    "production": {
        "worker": 8,
        "worker with its group": 8,
        "reaper": 4,
        "broker": 3,
        "flush": 3,
        "Postgres, gently": 1,
        "Postgres, at once": 1,
    },
    "embedded": {"serve": 4, "serve with its group": 3, "local worker": 4},
}
"""How often each fault is chosen, against the others of its service."""


class Faults:
    """Breaks a service every now and then. ``orphans`` are processes that outlived what started them."""

    def __init__(self, site: Site, random: Random, every_s: float) -> None:
        self._site = site
        self._random = random
        self._every_s = every_s
        self._next = 0.0
        self._weights = WEIGHTS["production" if site.settings.broker_url else "embedded"]
        self.done: Counter[str] = Counter()
        self.orphans: list[psutil.Process] = []

    def begin(self) -> None:
        """Wait for the first fault from now on."""
        self._next = time.monotonic() + self._every_s

    def maybe(self) -> None:
        """Do the next fault if it is time for one."""
        if time.monotonic() < self._next:
            return
        kind = self._random.choices(list(self._weights), list(self._weights.values()))[0]
        self.do(kind)
        self._next = time.monotonic() + self._random.expovariate(1 / self._every_s)

    def do(self, kind: str) -> None:
        """Do one fault of ``WEIGHTS`` now."""
        self.done[kind] += 1
        if kind == "flush":
            with contextlib.suppress(redis.RedisError), redis.Redis(port=self._site.redis_port) as client:
                client.flushall()
        elif kind.startswith("Postgres"):
            sites.restart_postgres(self._site, gently=kind.endswith("gently"))
        elif kind == "local worker":
            self._kill_local_worker()
        else:
            name = {"broker": "redis"}.get(kind, kind.split(maxsplit=1)[0])
            member = self._random.choice(sites.names(self._site.members, name))
            self.orphans += sites.kill(member, group=kind.endswith("group"))

    def _kill_local_worker(self) -> None:
        (serve,) = self._site.members
        for child in _children(serve):
            with contextlib.suppress(psutil.Error):
                family = child.children(recursive=True)
                child.kill()
                self.orphans += sites.outlive(family)


def _children(member: Member) -> list[psutil.Process]:
    if member.process is None:
        return []
    with contextlib.suppress(psutil.Error):
        return list(psutil.Process(member.process.pid).children())
    return []
