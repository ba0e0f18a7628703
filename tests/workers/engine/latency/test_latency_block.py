"""A block's rotation on a GPU whose driver is a stand-in; the calls and their clocks are real."""

from typing import Any

from workers.engine.latency import analysis, block, clock
from workers.engine.latency.gpu import REASONS, Gpu
from workers.engine.latency.plan import Scatter
from workers.engine.latency.points import OperatingPoint

ROUNDS = 8


class Counting:
    """A seat whose listing adds numbers."""

    load_ms = 1.0

    def __init__(self) -> None:
        self._clock = clock.Clock(1)

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
        return self._clock.timed(lambda: sum(range(200_000)), calls)


def rotated(nvml: Any) -> analysis.PointBlock:
    import numpy as np

    gpu = Gpu.first(nvml, {})
    task = block.Task((), (OperatingPoint("torch"),), 0, 0, 60.0, 0, Scatter(), 0.05, apart=False)
    slots = [block._Slot(entry, Counting()) for entry in (0, 1, 0)]
    point = block._Point(task, 0, slots, {}, gpu)
    rng = np.random.default_rng(0)
    point.warm(rng, lambda _: None, most_s=1.0)
    point.rotate(ROUNDS, rng, lambda _: None, until=float("inf"))
    return analysis.PointBlock.from_json(point.result(), number=0, attempt=1, threads=1)


def test_a_quiet_gpu_leaves_every_round(nvml: Any) -> None:
    found = rotated(nvml)
    assert found.usable().sum() == ROUNDS
    assert found.around.sm_mhz is not None
    assert (found.around.sm_mhz == 1500).all()
    assert found.cycles((0, 1), found.wall_ns[:, [0, 1]].astype(float)) is not None


def test_a_throttled_gpu_leaves_none_and_the_times_are_kept(nvml: Any) -> None:
    nvml.answers["nvmlDeviceGetCurrentClocksEventReasons"] = REASONS["hw_thermal"]
    found = rotated(nvml)
    assert found.wall_ns.shape == (ROUNDS, 3)
    assert not found.usable().any()
    assert analysis.discarded_json([found])["throttled_hw_thermal"] == ROUNDS * 3
