import math
from typing import Any

import numpy as np
import pytest

from workers.engine.latency import analysis, around
from workers.engine.latency.group import Group
from workers.engine.latency.points import OperatingPoint

MS = 1_000_000


def block(
    number: int,
    *,
    control: float = 1.0,
    ratio: float = 1.0,
    waits: float = 0.0,
    threads: int = 1,
    conditions: dict[str, Any] | None = None,
) -> Any:
    """Build ten rounds of slots a, b and the control of a, with the planted ratios, waits and conditions."""
    rng = np.random.default_rng(number)
    own = np.array([10 * MS * control, 10 * MS * control / ratio, 10 * MS]) * rng.normal(1, 0.001, (10, 3))
    wait = rng.random((10, 3)) * waits * own
    value = {
        "slots": [0, 1, 0],
        "call_ns": (own + wait).astype(int)[:, :, None].tolist(),
        "cpu_ns": own.astype(int).tolist(),
        "wait_ns": wait.astype(int).tolist(),
        "switches": (wait > 0).astype(int).tolist(),
        "order": [[0, 1, 2]] * 10,
        "conditions": {"steal": [0] * 10, "suspended_ns": [0] * 10} | (conditions or {}),
        "waits": True,
        "first_call_ms": [20.0, 20.0, 20.0],
        "load_ms": [1.0, 1.0, 1.0],
        "warmup_iterations": 6,
        "warmup_agreed": True,
    }
    return analysis.PointBlock.from_json(value, number=number, attempt=1, threads=threads)


def test_waits_are_taken_off_where_they_hit_nearly_every_round() -> None:
    blocks = [block(i, ratio=1.1, waits=3.0) for i in range(6)]
    pair = analysis.pair(blocks, 0, 1)
    assert pair.basis == {"net of waits": 6}
    assert pair.wall.ratio == pytest.approx(1.1, rel=0.005)
    entry = analysis.entry_json("a", 0, blocks)
    assert entry["median_ms"] == pytest.approx(10, rel=0.01)
    assert entry["samples"] == 60
    assert analysis.discarded_json(blocks)["kept"] > 150


def test_what_a_turn_waited_is_taken_off_its_longest_call() -> None:
    short = MS // 10
    turn = [short, 3 * short, short, short]
    value = {
        "slots": [0, 0],
        "call_ns": [[turn, turn]] * 10,
        "cpu_ns": [[4 * short] * 2] * 10,
        "wait_ns": [[2 * short] * 2] * 10,
        "switches": [[1, 1]] * 10,
        "order": [[0, 1]] * 10,
        "conditions": {"steal": [0] * 10, "suspended_ns": [0] * 10},
        "waits": True,
        "first_call_ms": [1.0, 1.0],
        "load_ms": [1.0, 1.0],
        "warmup_iterations": 6,
        "warmup_agreed": True,
    }
    one = analysis.PointBlock.from_json(value, number=0, attempt=1, threads=1)
    calls, basis = one.calls(0)
    assert basis == "net of waits"
    assert calls.tolist() == [short] * 40
    entry = analysis.entry_json("a", 0, [one])
    assert entry["samples"] == 40
    assert entry["median_ms"] == entry["cpu_median_ms"] == pytest.approx(0.1)
    assert analysis.entry_json("a", 0, [one, one])["p90_ms"] == pytest.approx(0.1)


def test_with_more_threads_nothing_is_taken_off() -> None:
    blocks = [block(i, waits=3.0, threads=2) for i in range(6)]
    assert analysis.pair(blocks, 0, 1).basis == {"all": 6}
    assert analysis.entry_json("a", 0, blocks)["median_ms"] > 15


def test_undisturbed_rounds_are_used_alone_where_there_are_enough() -> None:
    blocks = [block(i) for i in range(6)]
    for item in blocks:
        item.wait_ns[:4, 0] = 30 * MS
        item.wall_ns[:4, 0] += 30 * MS
        item.around.steal[4] = 1
    pair = analysis.pair(blocks, 0, 1)
    assert pair.basis == {"undisturbed": 6}
    assert pair.wall.ratio == pytest.approx(1.0, abs=0.003)
    assert analysis.discarded_json(blocks) == {"preempted": 24, "steal": 18, "kept": 0}
    assert analysis.entry_json("a", 0, blocks)["samples"] == 30


def test_a_session_settles_only_with_its_control() -> None:
    result = analysis.analyse([block(i) for i in range(6)])
    assert result is not None
    assert result.settled(0.05) == "decided"
    assert not result.void(0.05)
    moved = analysis.analyse([block(i, control=1.03) for i in range(6)])
    assert moved is not None
    assert moved.void(0.05)
    assert not moved.void(0.12)


def test_a_void_attempt_is_set_aside_and_its_samples_are_kept() -> None:
    group = Group([], [OperatingPoint("onnxruntime")], margin=0.05, seed=0)
    group.blocks = [[block(i, control=1.03)] for i in range(6)]
    group.stop("decided")
    assert group.void()
    group.rerun()
    assert group.attempt == 2
    assert group.stopped is None
    assert group.blocks == []
    assert len(group.voided) == 6
    assert not group.void()


def test_a_pair_near_the_margin_says_how_many_blocks_would_decide() -> None:
    blocks = [block(i, ratio=1.05 * math.exp(0.01 * (i % 3 - 1))) for i in range(4)]
    value = analysis.pair_json(analysis.pair(blocks, 0, 1), ["a", "b", "a"], 0.05)
    assert value["blocks"] == 4
    assert value["blocks_needed"] > 4
    sure = analysis.pair_json(analysis.pair([block(i, ratio=1.5) for i in range(6)], 0, 1), ["a", "b", "a"], 0.05)
    assert sure["blocks_needed"] is None


def of_gpu(**columns: Any) -> dict[str, Any]:
    """Return the columns of a GPU that nothing disturbed in ten rounds, but for those given."""
    quiet = {name: [0] * 10 for name in ("steal", "suspended_ns", "reasons", "foreign")}
    known = {"sm_mhz": [[1500] * 3] * 10, "power_mw": [250_000] * 10, "celsius": [60] * 10}
    device = {"uuid": "GPU-aa11", "uncorrected_errors": 0, "clock_us": 10.0, "look_us": 90.0}
    return quiet | known | {"device": device} | columns


@pytest.mark.parametrize(
    ("column", "hit", "cause"),
    [
        ("suspended_ns", 10**9, "suspended"),
        ("foreign", 2, "foreign_process"),
        ("reasons", 0x4, "throttled_power_cap"),
        ("reasons", 0x20, "throttled_sw_thermal"),
        ("reasons", 0x40, "throttled_hw_thermal"),
        ("reasons", 0x8, "throttled_hw_slowdown"),
    ],
)
def test_rounds_with_a_recorded_cause_are_never_used(column: str, hit: int, cause: str) -> None:
    blocks = [block(i, conditions=of_gpu(**{column: [0] + [hit] * 9})) for i in range(6)]
    for item in blocks:
        item.wall_ns[1:, 0] *= 2
    pair = analysis.pair(blocks, 0, 1)
    assert pair.wall.ratio == pytest.approx(1.0, abs=0.005)
    assert analysis.entry_json("a", 0, blocks)["samples"] == 6
    assert analysis.discarded_json(blocks) == {"preempted": 0, "steal": 0, "kept": 0, cause: 6 * 9 * 3}


def test_an_idle_gpu_and_clocks_that_its_owner_has_set_disturb_nothing() -> None:
    blocks = [block(i, conditions=of_gpu(reasons=[0x1 | 0x2 | 0x10 | 0x100] * 10)) for i in range(6)]
    assert analysis.pair(blocks, 0, 1).basis == {"undisturbed": 6}


def test_a_cause_is_counted_once_by_the_gravest() -> None:
    blocks = [block(0, waits=3.0, conditions=of_gpu(foreign=[1] * 10, reasons=[0x44] * 10))]
    assert analysis.discarded_json(blocks) == {"preempted": 0, "steal": 0, "kept": 0, "foreign_process": 30}


def test_blocks_without_a_usable_round_count_for_nothing_and_say_why() -> None:
    capped = of_gpu(reasons=[0x4] * 10)
    mixed = analysis.analyse([block(0, conditions=capped), *(block(i, conditions=of_gpu()) for i in range(1, 5))])
    assert mixed is not None
    assert len(mixed.blocks) == 4
    blocks = [block(i, conditions=capped) for i in range(4)]
    assert analysis.analyse(blocks) is None
    said = around.why_useless(analysis.discarded_json(blocks))
    assert "throttled power cap (120 iterations)" in said
    assert "--lock-gpu-clocks" in said


def test_a_difference_that_is_only_the_clock_s_is_none_in_cycles() -> None:
    # The first listing makes the device throttle its clock: 10 % slower in time, the same number of cycles.
    clocks = [[1350, 1500, 1350]] * 10
    blocks = [block(i, ratio=1500 / 1350, conditions=of_gpu(sm_mhz=clocks)) for i in range(6)]
    value = analysis.pair_json(analysis.pair(blocks, 0, 1), ["a", "b", "a"], 0.05)
    assert value["ratio"] == pytest.approx(1.11, abs=0.01)
    assert value["cycles_ratio"] == pytest.approx(1.0, abs=0.01)
    assert value["cycles_ci95"][1] < 1.02


@pytest.mark.parametrize("clocks", [[[-1] * 3] * 10, [[1500, -1, 1500], *[[1500] * 3] * 9]])
def test_without_every_call_s_clock_there_are_no_cycles(clocks: list[list[int]]) -> None:
    blocks = [block(i, conditions=of_gpu(sm_mhz=clocks)) for i in range(6)]
    value = analysis.pair_json(analysis.pair(blocks, 0, 1), ["a", "b", "a"], 0.05)
    assert (value["cycles_ratio"], value["cycles_ci95"]) == (None, None)


def test_a_device_is_summed_up_and_none_is_none() -> None:
    blocks = [block(i, conditions=of_gpu(celsius=[-1] * 5 + [71] * 5)).around for i in range(3)]
    found = around.summary(blocks)
    assert found is not None
    assert found["sm_mhz"] == [1500, 1500, 1500]
    assert (found["power_w"], found["celsius"], found["uncorrected_errors"]) == (250.0, 71, 0)
    assert around.summary([block(0).around]) is None
