"""A block's rotation on a GPU whose driver is a stand-in; the calls and their clocks are real."""

from typing import Any

import numpy as np

from workers.engine.latency import analysis, block, clock
from workers.engine.latency.gpu import REASONS, Gpu
from workers.engine.latency.plan import Scatter
from workers.engine.latency.points import OperatingPoint

ROUNDS = 8


class Counting:
    """A seat whose listing adds numbers."""

    load_ms = 1.0

    def __init__(self, numbers: int = 200_000) -> None:
        self._clock = clock.Clock(1)
        self._numbers = numbers

    def refusal(self, index: int) -> str | None:
        del index
        return None

    def measures_waits(self, index: int) -> bool:
        del index
        return self._clock.measures_waits()

    def first(self, index: int) -> clock.Tick:
        return self.timed(index)

    def timed(self, index: int, calls: int = 1) -> clock.Tick:
        del index
        return self._clock.timed(lambda: sum(range(self._numbers)), calls)


def rotated(gpu: Gpu | None, numbers: int = 200_000) -> analysis.PointBlock:
    task = block.Task((), (OperatingPoint("torch"),), 0, 0, 60.0, (), Scatter(), 0.05, apart=False)
    slots = [block._Slot(entry, Counting(numbers)) for entry in (0, 1, 0)]
    point = block._Point(task, 0, slots, {}, gpu)
    rng = np.random.default_rng(0)
    point.warm(rng, lambda _: None, most_s=1.0)
    point.rotate(ROUNDS, rng, lambda _: None, until=float("inf"))
    return analysis.PointBlock.from_json(point.result(), number=0, attempt=1, threads=1)


def test_a_quiet_gpu_leaves_every_round(nvml: Any) -> None:
    found = rotated(Gpu.first(nvml, {}))
    assert found.usable().sum() == ROUNDS
    assert found.around.sm_mhz is not None
    assert (found.around.sm_mhz == 1500).all()
    assert found.cycles((0, 1), found.wall_ns[:, [0, 1]].astype(float)) is not None


def test_a_throttled_gpu_leaves_none_and_the_times_are_kept(nvml: Any) -> None:
    nvml.answers["nvmlDeviceGetCurrentClocksEventReasons"] = REASONS["hw_thermal"]
    found = rotated(Gpu.first(nvml, {}))
    assert found.wall_ns.shape == (ROUNDS, 3)
    assert not found.usable().any()
    assert analysis.discarded_json([found])["throttled_hw_thermal"] == ROUNDS * 3


def test_short_calls_run_several_times_in_a_turn_and_are_timed_singly() -> None:
    found = rotated(None, numbers=2_000)  # some tens of microseconds
    calls = found.call_ns.shape[2]
    assert calls >= 5
    assert block.TURN_S / 5 < np.median(found.wall_ns) / 1e9 < 5 * block.TURN_S
    _, used, _ = found.times([0])
    assert used.any()
    assert analysis.entry_json("a", 0, [found])["samples"] == used.sum() * calls
    assert rotated(None, numbers=2_000_000).call_ns.shape == (ROUNDS, 3, 1)
