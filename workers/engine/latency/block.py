"""One block: what runs inside a fresh process that holds every listing of a group.

Listings are loaded in shuffled order, so that none always gets the memory of the first; one of them is loaded twice,
as the control. Every operating point is warmed up in rotation, then measured in rotation: what is compared shares its
moment, its caches and its neighbours.
"""

from __future__ import annotations

import gc
import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.engine.latency import clock, order
from workers.engine.latency.conditions import Conditions
from workers.engine.latency.gpu import Gpu
from workers.engine.latency.plan import Scatter, plan, share
from workers.engine.latency.seats import Apart, Here, Seat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workers.engine.latency.points import Entry, OperatingPoint

    Send = Callable[[dict[str, Any]], None]

WINDOWS_AGREE = 0.05
"""Warm-up is over when, for every listing, the medians of two neighbouring windows have differed by less than this."""
WINDOW = 3
SHORT_WINDOW = 1
LONG_CALL_S = 0.2
"""Calls longer than this are warmed up in windows of one: each is its own average over many operators."""
MOST_WARMUP = 30
WARMUP_SHARE = 0.12
"""Most of the remaining budget that one block's warm-up may take; pairing cancels what drift is left."""
BEAT_S = 1.0
_OVERRUN = 1.5
"""A block ends its rotation when it takes this much longer than planned, since the machine has become busier."""

_SHORT_S = 0.05
TURN_S = 0.004
"""Calls shorter than this run several times in a turn, so that reading the clocks between turns costs next to nothing.
"""


@dataclass(frozen=True)
class Task:
    """What one block shall do.

    ``points`` differ in batch and boundary; ``left_s`` is what remains of their budget; ``done`` are the rounds of the
    blocks before; ``apart`` gives each copy a process of its own.
    """

    entries: tuple[Entry, ...]
    points: tuple[OperatingPoint, ...]
    seed: int
    number: int
    left_s: float
    done: tuple[int, ...]
    scatter: Scatter
    margin: float
    apart: bool


@dataclass(frozen=True)
class _Slot:
    """A loaded copy of an entry."""

    entry: int
    seat: Seat


def run(task: Task, send: Send) -> dict[str, Any]:
    """Run the block in this process; the result is JSON (see ``_Point.result`` for the fields of ``points``).

    ``start_s`` is what it took to load and to warm up, ``rotation_s`` what the measured rounds took with everything
    between them; ``plan`` is ``plan.Plan`` as it was made in between.
    """
    started = time.perf_counter()
    rng = np.random.default_rng((task.seed, task.number))
    gpu = None if task.points[0].device == "cpu" else Gpu.first()
    slots, refusals = _load(task, rng, send)
    warmed = [_Point(task, index, slots, refusals, gpu) for index in range(len(task.points))]
    for point in warmed:
        if point.slots:
            point.warm(rng, send, most_s=WARMUP_SHARE * task.left_s / len(warmed))
    active = [point for point in warmed if point.slots]
    chosen = plan(
        start_s=time.perf_counter() - started,
        round_s=sum(point.round_s for point in active) or 1.0,
        left_s=task.left_s,
        done=task.done,
        scatter=task.scatter,
        margin=task.margin,
    )
    counts = share(chosen.rounds, [point.round_s for point in active]) if active else []
    gc.collect()
    gc.freeze()
    gc.disable()
    start_s = time.perf_counter() - started
    rotation_s = 0.0
    for done, (point, count) in enumerate(zip(active, counts, strict=True)):
        point.warm_caches()
        now = time.perf_counter()
        share_s = max(task.left_s - (now - started), 0.0) / (len(active) - done)
        planned_s = max(_OVERRUN * count * point.round_s, _SHORT_S)
        point.rotate(count, rng, send, until=now + min(share_s, planned_s))
        rotation_s += time.perf_counter() - now
    return {
        "start_s": start_s,
        "rotation_s": rotation_s,
        "plan": asdict(chosen),
        "points": [point.result() for point in warmed],
    }


def _load(task: Task, rng: np.random.Generator, send: Send) -> tuple[list[_Slot], dict[tuple[int, int], str]]:
    """Load every entry in shuffled order and the control's second copy; which copy is the control is drawn by lot."""
    slots: dict[int, _Slot] = {}
    for entry in rng.permutation(len(task.entries)).tolist():
        slots[entry] = _load_one(task, entry, send)
    refusals = {
        (entry, index): refusal
        for entry, slot in slots.items()
        for index in range(len(task.points))
        if (refusal := slot.seat.refusal(index))
    }
    refused = {entry for entry, _ in refusals}
    twice = next((entry for entry in range(len(task.entries)) if entry not in refused), 0)
    first, second = slots[twice], _load_one(task, twice, send)
    if rng.random() < 0.5:  # noqa: PLR2004 - a coin
        first, second = second, first
    slots[twice] = first
    return [*(slots[entry] for entry in range(len(task.entries))), second], refusals


def _load_one(task: Task, entry: int, send: Send) -> _Slot:
    send({"doing": "loading", "entry": entry})
    sit = Apart if task.apart else Here
    return _Slot(entry, sit(task.entries[entry], task.points, task.seed))


class _Point:
    """One operating point of a block: the calls of those slots that can run at it."""

    def __init__(
        self, task: Task, index: int, slots: list[_Slot], refusals: dict[tuple[int, int], str], gpu: Gpu | None
    ) -> None:
        self._task = task
        self._index = index
        self._gpu = gpu
        self._refused = {entry: reason for (entry, at), reason in refusals.items() if at == index}
        self.slots = [slot for slot in slots if slot.entry not in self._refused]
        self._first_ms: list[float] = []
        self._warmup = 0
        self._agreed = False
        self._calls = 1
        self._rows: list[dict[str, Any]] = []
        self._conditions: Conditions | None = None
        self.round_s = 0.0

    def warm(self, rng: np.random.Generator, send: Send, *, most_s: float) -> None:
        """First calls, then rotation until two windows agree for every slot, or ``most_s`` or the most calls is spent.

        The windows of each slot's call times are compared by their medians, as in the steady-state detection of
        Georges, Buytaert and Eeckhout, OOPSLA 2007, section 4.1, with a cut-off fit for a shared machine.
        """
        started = time.perf_counter()
        for slot in self.slots:
            send({"doing": "running", "entry": slot.entry})
            self._first_ms.append(slot.seat.first(self._index).wall_ns / 1e6)
        times: list[list[int]] = [[] for _ in self.slots]
        walls: list[int] = []
        steady: set[int] = set()
        window = SHORT_WINDOW if max(self._first_ms) > LONG_CALL_S * 1e3 else WINDOW
        for turn in order.rounds(len(self.slots), rng):
            for at in turn:
                send({"entry": self.slots[at].entry})
                tick = self.slots[at].seat.timed(self._index)
                walls.append(tick.wall_ns)
                times[at].append(tick.wall_ns - tick.wait_ns)
            self._warmup += 1
            # Once steady, steady: on a noisy machine all of them at the same moment would be a matter of luck.
            steady |= {at for at, mine in enumerate(times) if _agree(mine, window)}
            self._agreed = len(steady) == len(times)
            spent = time.perf_counter() - started
            if self._agreed or self._warmup >= MOST_WARMUP or spent > most_s:
                break
        call_s = float(np.mean(walls[-window * len(times) :])) / 1e9
        self._calls = math.ceil(TURN_S / call_s)
        self.round_s = self._calls * call_s * len(times)

    def warm_caches(self) -> None:
        """Run short calls once, untimed: the pause since the last one has cooled the caches, and they notice."""
        if self.round_s < _SHORT_S:
            for slot in self.slots:
                slot.seat.timed(self._index)

    def rotate(self, count: int, rng: np.random.Generator, send: Send, *, until: float) -> None:
        """Measure ``count`` rounds, or as many as end before ``until`` (perf_counter, s); at least one."""
        turns: Iterator[list[int]] = order.rounds(len(self.slots), rng)
        send({"doing": "measuring", "entry": None})
        conditions = self._conditions = Conditions(len(self.slots), self._gpu, round_s=self.round_s)
        beat = time.perf_counter()
        for _ in range(count):
            turn = next(turns)
            ticks = []
            conditions.begin()
            for at in turn:
                ticks.append(self.slots[at].seat.timed(self._index, self._calls))
                conditions.called(at)
            conditions.end()
            self._rows.append({"order": turn, "ticks": ticks})
            now = time.perf_counter()
            if now + self.round_s > until:
                break
            if now - beat > BEAT_S:
                send({"rounds": len(self._rows)})
                beat = now

    def result(self) -> dict[str, Any]:
        """Return the point's raw times, each ``[round][slot]`` with the slots in the order of ``slots``.

        ``call_ns`` is ``[round][slot][call]``.
        """
        count = len(self.slots)
        columns: dict[str, list[list[int]]] = {name: [] for name in ("order", *clock.Tick._fields)}
        for row in self._rows:
            place = [row["order"].index(slot) for slot in range(count)]
            columns["order"].append(place)
            for name in clock.Tick._fields:
                columns[name].append([getattr(row["ticks"][at], name) for at in place])
        return columns | {
            "slots": [slot.entry for slot in self.slots],
            "waits": all(slot.seat.measures_waits(self._index) for slot in self.slots),
            "conditions": self._conditions.columns() if self._conditions else {},
            "refused": {str(entry): reason for entry, reason in self._refused.items()},
            "first_call_ms": self._first_ms,
            "load_ms": [slot.seat.load_ms for slot in self.slots],
            "warmup_iterations": self._warmup,
            "warmup_agreed": self._agreed,
        }


def _agree(times: list[int], window: int) -> bool:
    """Whether the last two windows have nearly the same median."""
    if len(times) < 2 * window:
        return False
    last, before = (float(np.median(part)) for part in (times[-window:], times[-2 * window : -window]))
    return abs(last - before) < WINDOWS_AGREE * before
