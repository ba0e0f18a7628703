"""Conditions of rounds; the GPU's driver is a stand-in (see ``nvml``), the clocks are real where none is planted."""

import time
from collections.abc import Iterator
from typing import Any

from workers.engine.latency.conditions import Conditions, clocks
from workers.engine.latency.gpu import REASONS, Gpu

S = 1_000_000_000


def opened(nvml: Any) -> Gpu:
    found = Gpu.first(nvml, {})
    assert found is not None
    return found


def rounds(conditions: Conditions, count: int, *, slots: int = 3) -> dict[str, Any]:
    for _ in range(count):
        conditions.begin()
        for slot in range(slots):
            conditions.called(slot)
        conditions.end()
    return conditions.columns()


def readings(asleep_s: list[float], *, late_s: float = 0.0) -> Iterator[tuple[int, int, int]]:
    """Yield what the clocks say at each reading, after so much time asleep; ``late_s`` passes between two clocks."""
    awake = 1000 * S
    for asleep in asleep_s:
        awake += S
        yield awake, int(awake + (asleep + late_s / 2) * S), int(awake + late_s * S)


def test_a_suspension_inside_a_round_is_seen_there_alone() -> None:
    # Two readings a round: the machine sleeps for five seconds inside the second, and between the third and fourth.
    read = readings([0, 0, 0, 5, 5, 5, 60, 60])
    columns = rounds(Conditions(3, None, round_s=1.0, read=lambda: next(read)), 4)
    assert columns["suspended_ns"] == [0, 5 * S, 0, 0]


def test_waiting_for_a_core_between_two_clocks_is_no_suspension() -> None:
    read = readings([0, 0, 0, 0], late_s=0.3)
    columns = rounds(Conditions(3, None, round_s=1.0, read=lambda: next(read)), 2)
    assert columns["suspended_ns"] == [0, 0]


def test_this_machine_was_awake() -> None:
    columns = rounds(Conditions(3, None, round_s=1.0), 500)
    assert sum(columns["suspended_ns"]) == 0
    assert len(columns["steal"]) == 500
    before, total, after = clocks()
    assert before <= after
    assert total > 0


def test_a_healthy_gpu_and_the_clock_of_every_call(nvml: Any) -> None:
    mhz = iter(range(1000, 2000))
    conditions = Conditions(3, opened(nvml), round_s=1.0)
    nvml.nvmlDeviceGetClockInfo = lambda *_: next(mhz)
    columns = rounds(conditions, 2)
    assert columns["sm_mhz"][0] == [1000, 1001, 1002]
    assert columns["reasons"] == columns["foreign"] == [0, 0]
    assert columns["celsius"] == [60, 60]
    assert columns["device"]["uuid"] == "GPU-aa11"
    assert columns["device"]["uncorrected_errors"] == 0
    assert columns["device"]["look_us"] > 0


def test_a_reason_counts_for_the_rounds_on_both_of_its_sides(nvml: Any) -> None:
    conditions = Conditions(1, opened(nvml), round_s=1.0)
    conditions._look_s = 0.0  # whatever the stand-in costs, look after every round
    seen = []
    for reasons in (0, REASONS["power_cap"], 0, 0):
        nvml.answers["nvmlDeviceGetCurrentClocksEventReasons"] = reasons
        conditions.begin()
        conditions.end()
        conditions._look_s = 0.0
        seen.append(reasons)
    cap = REASONS["power_cap"]
    assert conditions.columns()["reasons"] == [0, cap, cap, 0]


def test_a_driver_that_is_slow_to_answer_is_asked_seldom_and_no_round_is_forgotten(nvml: Any) -> None:
    def slow(*_: Any) -> int:
        time.sleep(0.002)
        return 1500

    nvml.nvmlDeviceGetClockInfo = slow
    conditions = Conditions(2, opened(nvml), round_s=0.01)
    nvml.calls.clear()
    columns = rounds(conditions, 50, slots=2)
    assert nvml.calls.count("nvmlDeviceGetTemperature") == 1, "only the last look, which is never left out"
    assert {len(columns[name]) for name in ("steal", "sm_mhz", "power_mw", "reasons", "foreign")} == {50}
    assert columns["sm_mhz"] == [[-1, -1]] * 50, "too slow to ask between calls of 5 ms"


def test_what_the_board_does_not_tell_is_unknown_not_zero(nvml: Any) -> None:
    for name in ("ClockInfo", "PowerUsage", "Temperature", "CurrentClocksEventReasons", "ComputeRunningProcesses"):
        nvml.answers[f"nvmlDeviceGet{name}"] = nvml.NVMLError_NotSupported
    nvml.answers["nvmlDeviceGetTotalEccErrors"] = nvml.NVMLError_NotSupported
    columns = rounds(Conditions(1, opened(nvml), round_s=1.0), 2, slots=1)
    assert columns["sm_mhz"] == [[-1], [-1]]
    for name in ("power_mw", "celsius", "reasons", "foreign"):
        assert columns[name] == [-1, -1]
    assert columns["device"]["uncorrected_errors"] is None
