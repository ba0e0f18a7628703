"""A block's rotation on a GPU whose driver is a stand-in; the calls and their clocks are real."""

from collections.abc import Callable
from typing import Any

from workers.engine.latency import analysis, block
from workers.engine.latency.gpu import REASONS, Gpu
from workers.engine.latency.plan import Scatter
from workers.engine.latency.points import OperatingPoint

ROUNDS = 8


class Counting:
    """Stands for a loaded listing."""

    def refusal(self, batch: int) -> str | None:
        del batch
        return None

    def call(self, batch: int, seed: int) -> Callable[[], Any]:
        del batch, seed
        return lambda: sum(range(200_000))


def rotated(nvml: Any) -> analysis.PointBlock:
    import numpy as np

    gpu = Gpu.first(nvml, {})
    task = block.Task((), (OperatingPoint("torch"),), 0, 0, 60.0, 0, Scatter(), 0.05)
    slots = [block._Slot(entry, Counting(), 1.0) for entry in (0, 1, 0)]
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
