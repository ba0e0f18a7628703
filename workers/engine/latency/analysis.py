"""From the raw times of an operating point's blocks to its figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import reduce
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workers.engine.latency import statistics
from workers.engine.latency.around import Around
from workers.engine.latency.plan import ASSUMED_BLOCKS, Scatter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

Basis = Literal["undisturbed", "net of waits", "all"]
"""Which times a figure rests on: wall times of undisturbed iterations; wall times less the time spent waiting for a
core, where too few were undisturbed and the waits are known; or all wall times as they are."""

LOST_SHARE = 0.002
"""With one thread, waiting for a core during less than this share of a turn does not disturb it."""
_SCATTER_BLOCKS = 3


@dataclass(frozen=True)
class PointBlock:
    """One block's times at one operating point.

    ``call_ns`` is ``[round, slot, call]``: short calls run several times in a turn. By turn, ``[round, slot]``, are
    ``wall_ns`` (of all its calls), ``cpu_ns``, ``switches`` (involuntary), ``wait_ns`` (known when ``waits``) and
    ``place`` (0 ran first in its round). ``slots`` names each slot's entry; the last one is the control, the second
    copy of an entry, when ``control`` is true. ``around`` is what happened beside, ``busy_beside`` the cores that
    worked for others meanwhile.
    """

    number: int
    attempt: int
    threads: int
    slots: tuple[int, ...]
    control: bool
    call_ns: Ints
    wall_ns: Ints
    cpu_ns: Ints
    switches: Ints
    wait_ns: Ints
    waits: bool
    place: Ints
    around: Around
    first_call_ms: tuple[float, ...]
    load_ms: tuple[float, ...]
    warmup_iterations: int
    warmup_agreed: bool
    busy_beside: float | None
    _ratios: dict[tuple[int, int], Ratio] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def from_json(
        cls, value: dict[str, Any], *, number: int, attempt: int, threads: int, busy_beside: float | None = None
    ) -> PointBlock:
        """Build from ``block.run``'s account of one point."""
        shape = (len(value["call_ns"]), len(value["slots"]))
        table = {
            name: np.asarray(value[name], dtype=np.int64).reshape(shape)
            for name in ("cpu_ns", "switches", "wait_ns", "order")
        }
        call_ns = np.asarray(value["call_ns"], dtype=np.int64)
        # A point at which nothing ran has no calls either.
        call_ns = call_ns.reshape(*shape, -1) if call_ns.size else np.zeros((*shape, 1), dtype=np.int64)
        slots = tuple(value["slots"])
        return cls(
            number=number,
            attempt=attempt,
            threads=threads,
            slots=slots,
            control=len(set(slots)) < len(slots),
            call_ns=call_ns,
            wall_ns=call_ns.sum(axis=2),
            cpu_ns=table["cpu_ns"],
            switches=table["switches"],
            wait_ns=table["wait_ns"],
            waits=value["waits"] and threads == 1,
            place=table["order"],
            around=Around.from_json(value["conditions"], shape),
            first_call_ms=tuple(value["first_call_ms"]),
            load_ms=tuple(value["load_ms"]),
            warmup_iterations=value["warmup_iterations"],
            warmup_agreed=value["warmup_agreed"],
            busy_beside=busy_beside,
        )

    def preempted(self) -> Bools:
        """Turns, ``[round, slot]``, that another process interrupted.

        With one thread the time it cost is known, and interruptions that cost next to nothing do not count: on a busy
        machine every long iteration has some. With more threads, any involuntary switch of one of them counts.
        """
        if self.waits:
            return self.wait_ns > LOST_SHARE * self.wall_ns
        return self.switches > 0

    def causes(self) -> dict[str, Bools]:
        """Return the recorded causes to discard iterations, ``[round, slot]`` each, the gravest first."""
        of_rounds = {
            cause: np.broadcast_to(hit[:, None], self.wall_ns.shape) for cause, hit in self.around.causes().items()
        }
        stolen = np.broadcast_to((self.around.steal > 0)[:, None], self.wall_ns.shape)
        return {**of_rounds, "preempted": self.preempted(), "steal": stolen}

    def usable(self) -> Bools:
        """Rounds that may stand for the models at all, ``[round]``: what is beside them cannot be taken off."""
        unusable = np.zeros(len(self.wall_ns), dtype=np.bool_)
        for hit in self.around.causes().values():
            unusable |= hit
        return ~unusable

    def disturbed(self) -> Bools:
        """Iterations with any recorded cause to discard them, ``[round, slot]``."""
        return np.logical_or.reduce(list(self.causes().values()))

    def times(self, slots: Sequence[int]) -> tuple[Floats, Bools, Basis]:
        """Wall times in ns ``[round, slot]`` of these slots, the rounds to use, and on what basis.

        Paired rounds stay paired: a round counts as disturbed when one of the slots was. Where a busy machine leaves
        too few undisturbed rounds, discarding would leave nothing, or a chance few; the recorded waits are then taken
        off instead (one thread only: with more, the wait of one thread is not the wait of the call). On two cores with
        two to three busy processes beside, block ratios of a network with itself scattered by 8.6 % in plain wall
        time, by 2.6 % over whatever undisturbed rounds there were (none in half of the blocks), by 1.3 % this way.
        """
        wall = self.wall_ns[:, list(slots)].astype(np.float64)
        disturbed = np.asarray(self.disturbed()[:, list(slots)].any(axis=1))
        usable = self.usable()
        if statistics.enough_clean(disturbed[usable]):
            return wall, ~disturbed, "undisturbed"
        if self.waits:
            stolen = self.around.steal > 0
            rounds = usable & ~stolen if statistics.enough_clean(stolen[usable]) else usable
            # A wait between two readings of the clocks belongs to no iteration: no call takes less than its CPU time.
            least = np.minimum(wall, self.cpu_ns[:, list(slots)])
            return np.maximum(wall - self.wait_ns[:, list(slots)], least), rounds, "net of waits"
        return wall, usable, "all"

    def calls(self, slot: int) -> tuple[Floats, Basis]:
        """Wall times in ns of this slot's single calls, of the rounds to use, and on what basis.

        What a turn of several calls waited for a core is taken off the longest of them, in which it will have been.
        """
        times, rounds, basis = self.times([slot])
        calls, net = self.call_ns[rounds, slot].astype(np.float64), times[rounds, 0]
        turns, longest = np.arange(len(calls)), calls.argmax(axis=1)
        waited = self.wall_ns[rounds, slot] - net
        calls[turns, longest] = np.maximum(calls[turns, longest] - waited, net / calls.shape[1])
        return calls.ravel(), basis

    def cycles(self, slots: Sequence[int], times: Floats) -> Floats | None:
        """Return times in clock cycles of the device; None where it has no clock that could be read at each call."""
        clocks = None if self.around.sm_mhz is None else self.around.sm_mhz[:, list(slots)]
        if clocks is None or not (clocks > 0).all():
            return None
        return times * clocks

    def ratio(self, a: int, b: int) -> Ratio:
        """Compare slot ``a`` with slot ``b`` in this block; computed once, because every later block asks again."""
        if (a, b) not in self._ratios:
            times, rounds, basis = self.times((a, b))
            used = self.cpu_ns[rounds][:, [a, b]].astype(np.float64)
            ran = self.cycles((a, b), times)
            self._ratios[a, b] = Ratio(
                wall=statistics.block_ratio(times[rounds, 0], times[rounds, 1]),
                cpu=statistics.block_ratio(used[:, 0], used[:, 1]).log_ratio if (used > 0).all() else None,
                cycles=None if ran is None else statistics.block_ratio(ran[rounds, 0], ran[rounds, 1]).log_ratio,
                basis=basis,
            )
        return self._ratios[a, b]


@dataclass(frozen=True)
class Ratio:
    """Two slots of one block: the log-ratio in wall time, CPU time and cycles, and what times it rests on."""

    wall: statistics.BlockRatio
    cpu: float | None
    cycles: float | None
    basis: Basis


@dataclass(frozen=True)
class Pair:
    """The ratio of two slots over blocks, in wall time, CPU time and a device's cycles, and the blocks' scatter."""

    a: int
    b: int
    wall: statistics.Estimate
    cpu: statistics.Estimate | None
    cycles: statistics.Estimate | None
    scatter: Scatter
    basis: dict[str, int]
    """Blocks by what their ratio rests on."""


def pair(blocks: Sequence[PointBlock], a: int, b: int) -> Pair:
    """Compare slot ``a`` with slot ``b``; needs at least one block."""
    ratios = [block.ratio(a, b) for block in blocks]
    cpu = [item.cpu for item in ratios if item.cpu is not None]
    cycles = [item.cycles for item in ratios if item.cycles is not None]
    return Pair(
        a=a,
        b=b,
        wall=statistics.estimate(np.array([item.wall.log_ratio for item in ratios])),
        cpu=statistics.estimate(np.array(cpu)) if cpu else None,
        cycles=statistics.estimate(np.array(cycles)) if cycles else None,
        scatter=_scatter([item.wall for item in ratios]),
        basis=dict(Counter(item.basis for item in ratios)),
    )


def _scatter(ratios: Sequence[statistics.BlockRatio]) -> Scatter:
    """Split the scatter of block ratios by where it comes from.

    The halves of one block share its process, so that their difference holds what iterations and time do; the ratios of
    several blocks hold all three. What the few blocks show is averaged with what is assumed.
    """
    assumed = Scatter()
    if len(ratios) < _SCATTER_BLOCKS:
        return assumed.widest(Scatter(max(item.quick for item in ratios), 0.0, 0.0))
    iterations = float(np.median([item.quick for item in ratios]))
    explained = float(np.mean([Scatter(iterations, 0.0, 0.0).variance(item.pairs) for item in ratios]))
    inside = float(np.mean([item.halves**2 for item in ratios])) / 4
    total = float(np.var([item.log_ratio for item in ratios], ddof=1))

    def averaged(shown: float, sd: float) -> float:
        """Average a variance of these blocks with the assumed one, by degrees of freedom; the standard deviation."""
        weight = len(ratios) - 1
        return float(np.sqrt((weight * max(shown, 0.0) + ASSUMED_BLOCKS * sd**2) / (weight + ASSUMED_BLOCKS)))

    return Scatter(
        iterations,
        averaged(inside - explained, assumed.time),
        averaged(total - max(inside, explained), assumed.processes),
    )


@dataclass(frozen=True)
class PointResult:
    """Every pair of listings at one point, and the control."""

    blocks: list[PointBlock]
    pairs: list[Pair]
    control: Pair | None

    def settled(self, margin: float) -> str | None:
        """``decided`` or ``precise`` when every pair is; else None.

        The control's interval must be within half of the margin, so that one that moved by the whole margin is seen.
        """
        values = [item.wall for item in self.pairs]
        if self.control and not self.control.wall.half_width() < margin / 2:
            return None
        if not values:
            return "decided" if self.control and statistics.decided(self.control.wall, margin) else None
        if all(statistics.decided(item, margin) for item in values):
            return "decided"
        done = all(statistics.decided(item, margin) or statistics.precise(item, margin) for item in values)
        return "precise" if done else None

    def void(self, margin: float) -> bool:
        """Whether the control moved, so that nothing else here can be believed."""
        return self.control is not None and statistics.moved(self.control.wall, margin)

    def scatter(self) -> Scatter:
        """Return the widest scatter of any pair."""
        every = [*self.pairs, *([self.control] if self.control else [])]
        return reduce(Scatter.widest, (item.scatter for item in every))


def analyse(blocks: Sequence[PointBlock]) -> PointResult | None:
    """Compare every pair of a point's listings; None when nothing ran at it that could be used."""
    blocks = [block for block in blocks if block.slots and block.usable().any()]
    if not blocks:
        return None
    control = blocks[0].control
    listings = range(len(blocks[0].slots) - control)
    twice = blocks[0].slots.index(blocks[0].slots[-1])
    return PointResult(
        blocks=list(blocks),
        pairs=[pair(blocks, a, b) for a, b in combinations(listings, 2)],
        control=pair(blocks, twice, len(blocks[0].slots) - 1) if control else None,
    )


def entry_json(ref: str, slot: int, blocks: Sequence[PointBlock]) -> dict[str, Any]:
    """Describe one listing's own times. Percentiles are upper bounds at 99 % confidence, or null."""
    chosen = [block.calls(slot) for block in blocks]
    wall = np.concatenate([calls for calls, _ in chosen]) / 1e6
    cpu = [block.cpu_ns[block.times([slot])[1], slot] / block.call_ns.shape[2] for block in blocks]
    return {
        "ref": ref,
        "basis": dict(Counter(basis for _, basis in chosen)),
        "median_ms": float(np.median(wall)),
        "p90_ms": statistics.percentile_bound(wall, 0.9),
        "p95_ms": statistics.percentile_bound(wall, 0.95),
        "p99_ms": statistics.percentile_bound(wall, 0.99),
        "p999_ms": statistics.percentile_bound(wall, 0.999),
        "samples": len(wall),
        "first_call_ms": float(np.median([block.first_call_ms[slot] for block in blocks])),
        "load_ms": float(np.median([block.load_ms[slot] for block in blocks])),
        "cpu_median_ms": float(np.median(np.concatenate(cpu))) / 1e6,
    }


def pair_json(item: Pair, refs: Sequence[str], margin: float) -> dict[str, Any]:
    """Describe one pair: ratio is time of ``a`` over time of ``b``; ``ci95`` is null below two blocks."""
    needed = (
        None if statistics.outside_or_inside(item.wall.ci95, margin) else statistics.blocks_needed(item.wall, margin)
    )
    return {
        "a": refs[item.a],
        "b": refs[item.b],
        "ratio": item.wall.ratio,
        "ci95": list(item.wall.ci95) if item.wall.ci95 else None,
        "cpu_ratio": item.cpu.ratio if item.cpu else None,
        "cpu_ci95": list(item.cpu.ci95) if item.cpu and item.cpu.ci95 else None,
        "cycles_ratio": item.cycles.ratio if item.cycles else None,
        "cycles_ci95": list(item.cycles.ci95) if item.cycles and item.cycles.ci95 else None,
        "blocks": item.wall.blocks,
        "basis": item.basis,
        "blocks_needed": needed,
    }


def discarded_json(blocks: Sequence[PointBlock]) -> dict[str, int]:
    """Count iterations by the gravest cause to discard them; ``kept`` are those of blocks that had too few others."""
    counts = {"preempted": 0, "steal": 0, "kept": 0}
    for block in blocks:
        counted = np.zeros(block.wall_ns.shape, dtype=np.bool_)
        for cause, hit in block.causes().items():
            if (hit & ~counted).any():
                counts[cause] = counts.get(cause, 0) + int((hit & ~counted).sum())
            counted |= hit
        for slot in range(len(block.slots)):
            _, rounds, basis = block.times([slot])
            counts["kept"] += int(block.disturbed()[rounds, slot].sum()) if basis != "undisturbed" else 0
    return counts
