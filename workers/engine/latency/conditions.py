"""What happened to the machine around each round of calls: recorded beside the times, judged by ``analysis``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from workers.engine.latency.clock import Steal

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.engine.latency.gpu import Gpu, Look

    Clocks = Callable[[], tuple[int, int, int]]

SHARE = 0.01
"""Most of the measured time that may go into asking the GPU's driver between rounds, and as much between calls."""
UNKNOWN = -1
"""Stands in a column for what the device does not tell."""
_TRIES = 5


class _Asleep(NamedTuple):
    """Bounds in ns of how long the machine has been suspended since it was started."""

    least: int
    most: int


def clocks() -> tuple[int, int, int]:
    """Read the clock that stops while the machine is suspended, the one that goes on, and the first again; ns."""
    awake = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    return awake, time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Conditions:
    """Records the conditions of the rounds of one operating point; ``columns`` gives them, each by round.

    Around every round: steal (clock ticks) and how long the machine was suspended (ns). Of a GPU besides: after every
    call its SM clock, and as often as ``SHARE`` of the time allows a whole look, which stands for the rounds since the
    last one; of throttle reasons both looks around a round count. A clock that is too slow to ask for between calls as
    short as these is left out, and with it the comparison in cycles.
    """

    def __init__(self, slots: int, gpu: Gpu | None, *, round_s: float, read: Clocks = clocks) -> None:
        """``round_s`` is what one round is expected to take."""
        self._read = read
        self._steal = Steal()
        self._gpu = gpu
        self._slots = slots
        self._columns: dict[str, list[Any]] = {"steal": [], "suspended_ns": []}
        self._pending: list[list[int]] = []
        self._unseen_s = 0.0
        self._before = (0, _Asleep(0, 0), 0.0)
        if gpu is not None:
            self._start(gpu, round_s)

    def _start(self, gpu: Gpu, round_s: float) -> None:
        self._columns |= {name: [] for name in ("sm_mhz", "power_mw", "celsius", "reasons", "foreign")}
        clock_s = min(_seconds(gpu.clock_mhz) for _ in range(_TRIES))
        self._clock_each_call = clock_s * self._slots <= SHARE * round_s
        self._look_s = 0.0
        self._errors = gpu.uncorrected_errors()
        self._last = self._look(gpu)
        self._costs = {"clock_us": clock_s * 1e6, "look_us": self._look_s * 1e6}

    def begin(self) -> None:
        """Note how things stand before a round."""
        self._clocks_now = [UNKNOWN] * self._slots
        self._before = (self._steal.ticks(), self._asleep(), time.perf_counter())

    def called(self, slot: int) -> None:
        """Note the clock of the call that has just ended."""
        if self._gpu is not None and self._clock_each_call:
            self._clocks_now[slot] = _known(self._gpu.clock_mhz())

    def end(self) -> None:
        """Note how things stand after a round."""
        ticks, asleep, started = self._before
        self._columns["steal"].append(self._steal.ticks() - ticks)
        self._columns["suspended_ns"].append(max(0, self._asleep().least - asleep.most))
        if self._gpu is None:
            return
        self._pending.append(self._clocks_now)
        self._unseen_s += time.perf_counter() - started
        if self._look_s <= SHARE * self._unseen_s:
            self._seen(self._gpu)

    def columns(self) -> dict[str, Any]:
        """Return every column, each ``[round]`` and ``sm_mhz`` ``[round][slot]``; -1 where the device does not tell.

        Of a GPU also ``device``: its UUID, what a question of each kind cost, and memory errors beyond correction.
        """
        if self._gpu is None:
            return dict(self._columns)
        if self._pending:
            self._seen(self._gpu)
        errors = self._gpu.uncorrected_errors()
        known = None if errors is None or self._errors is None else errors - self._errors
        return self._columns | {"device": {"uuid": self._gpu.uuid, "uncorrected_errors": known, **self._costs}}

    def _seen(self, gpu: Gpu) -> None:
        """Look, and let what is seen stand for the rounds since the last look."""
        before, after = self._last, self._look(gpu)
        self._last = after
        rows = len(self._pending)
        self._columns["sm_mhz"] += self._pending
        self._columns["power_mw"] += [_known(after.power_mw)] * rows
        self._columns["celsius"] += [_known(after.celsius)] * rows
        told = [each.reasons for each in (before, after) if each.reasons is not None]
        self._columns["reasons"] += [_union(told)] * rows
        users = [each.foreign for each in (before, after) if each.foreign is not None]
        self._columns["foreign"] += [max(users, default=UNKNOWN)] * rows
        self._pending, self._unseen_s = [], 0.0

    def _look(self, gpu: Gpu) -> Look:
        started = time.perf_counter()
        found = gpu.look()
        self._look_s = time.perf_counter() - started
        return found

    def _asleep(self) -> _Asleep:
        awake, total, awake_after = self._read()
        return _Asleep(total - awake_after, total - awake)


def _known(value: int | None) -> int:
    return UNKNOWN if value is None else value


def _union(reasons: list[int]) -> int:
    found = 0 if reasons else UNKNOWN
    for each in reasons:
        found |= each
    return found


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
