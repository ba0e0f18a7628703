"""Where the listings of a block sit: all in the block's own process, or each in another one that waits for its turn.

What shares a process is closest in time and in fortune. Where listings cannot (frameworks whose libraries clash, a
limit on the memory of each process), one process holds each copy, and the block passes a baton between single calls:
whoever has it runs one call, times it by its own clock, and gives it back.
"""

from __future__ import annotations

import gc
import json
import os
import time
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from workers.engine.latency import clock, process, runners
from workers.engine.latency.clock import Tick
from workers.engine.protocol import EngineError, SubjectError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workers.engine.latency.points import Entry, OperatingPoint


class Seat(Protocol):
    """A loaded copy of an entry; points are named by their place in the block's task."""

    load_ms: float

    def refusal(self, index: int) -> str | None:
        """Why this copy cannot run at a point, or None."""

    def measures_waits(self, index: int) -> bool:
        """Whether ``Tick.wait_ns`` is known at a point."""

    def first(self, index: int) -> Tick:
        """Make a point's call, and time it for the first time."""

    def timed(self, index: int, calls: int = 1) -> Tick:
        """Time a point's call, so many times one right after the other."""


class Here:
    """A copy in this process. Raises what loading raises."""

    def __init__(self, entry: Entry, points: Sequence[OperatingPoint], seed: int) -> None:
        start = time.perf_counter()
        self._runner = runners.load(entry, points[0])
        self.load_ms = (time.perf_counter() - start) * 1e3
        self._points = points
        self._seed = seed
        self._clocks = [clock.Clock(item.threads, on_device=item.boundary == "device") for item in points]
        self._calls: dict[int, Callable[[], Any]] = {}

    def refusal(self, index: int) -> str | None:
        """Ask the runner."""
        return self._runner.refusal(self._points[index])

    def measures_waits(self, index: int) -> bool:
        """Ask the clock."""
        return self._clocks[index].measures_waits()

    def first(self, index: int) -> Tick:
        """Make the call, and time it."""
        self._calls[index] = self._runner.call(self._points[index], self._seed)
        return self.timed(index)

    def timed(self, index: int, calls: int = 1) -> Tick:
        """Time the calls."""
        return self._clocks[index].timed(self._calls[index], calls)


class Apart:
    """A copy in a process of its own, which dies with this one. Raises SubjectError when that process has died."""

    def __init__(self, entry: Entry, points: Sequence[OperatingPoint], seed: int) -> None:
        self._ref = entry.ref
        (theirs, self._writing), (self._reading, mine) = os.pipe(), os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._writing)
            os.close(self._reading)
            _serve(theirs, mine, lambda: Here(entry, points, seed), len(points))
        os.close(theirs)
        os.close(mine)
        self._pending = b""
        hello = self._answer()
        self.load_ms: float = hello["load_ms"]
        self._refusals: list[str | None] = hello["refusals"]
        self._waits: list[bool] = hello["waits"]

    def refusal(self, index: int) -> str | None:
        """Repeat what the process said when it had loaded."""
        return self._refusals[index]

    def measures_waits(self, index: int) -> bool:
        """Repeat what the process said when it had loaded."""
        return self._waits[index]

    def first(self, index: int) -> Tick:
        """Have the process make its call, and time it."""
        return self._turn(index, 0)

    def timed(self, index: int, calls: int = 1) -> Tick:
        """Pass the baton."""
        return self._turn(index, calls)

    def _turn(self, index: int, calls: int) -> Tick:
        try:
            os.write(self._writing, f"{index} {calls}\n".encode())
        except BrokenPipeError:
            self._died()
        return Tick(*self._answer()["tick"])

    def _answer(self) -> dict[str, Any]:
        while b"\n" not in self._pending:
            chunk = os.read(self._reading, 1 << 16)
            if not chunk:
                self._died()
            self._pending += chunk
        line, self._pending = self._pending.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise SubjectError("model-failed", f"{self._ref}: {message['error']}")
        return message

    def _died(self) -> NoReturn:
        status = os.waitpid(self._pid, 0)[1]
        raise SubjectError("model-died", f"{self._ref}: {process.death(status)}")


def _serve(reading: int, writing: int, load: Callable[[], Here], points: int) -> NoReturn:
    """Load a copy and time its calls, until the other end closes; never returns.

    Each line asks for a turn: a point's place, and how many calls, 0 to make the call and time it for the first time.
    """

    def send(message: dict[str, Any]) -> None:
        os.write(writing, json.dumps(message).encode() + b"\n")

    try:
        process.die_with_parent()
        seat = load()
        refusals = [seat.refusal(index) for index in range(points)]
        send({
            "load_ms": seat.load_ms,
            "refusals": refusals,
            "waits": [seat.measures_waits(index) for index in range(points)],
        })  # fmt: skip
        gc.collect()
        gc.freeze()
        gc.disable()
        with os.fdopen(reading, "rb", buffering=0) as lines:
            while line := lines.readline():
                index, calls = map(int, line.split())
                if calls > 1:
                    # A process that has just been woken has cold caches, and short calls notice.
                    seat.timed(index)
                send({"tick": seat.timed(index, calls) if calls else seat.first(index)})
    except EngineError as error:
        send({"error": error.message})
    except MemoryError:
        send({"error": "it ran out of memory"})
    except Exception as error:  # noqa: BLE001 - whatever a model raises is this copy's answer
        send({"error": f"{type(error).__name__}: {error}"[:500]})
    finally:
        os._exit(0)
