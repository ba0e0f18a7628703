"""The driver is a stand-in with its faults planted: what is tested is how its answers are taken, not a GPU."""

import os
import subprocess
import sys
from typing import Any

import pytest

from workers.engine.latency import gpu
from workers.engine.latency.gpu import THROTTLED, Gpu
from workers.engine.protocol import TransientError


def opened(nvml: Any) -> Gpu:
    found = Gpu.first(nvml, {})
    assert found is not None
    return found


def test_a_healthy_board(nvml: Any) -> None:
    board = opened(nvml)
    assert board.uuid == "GPU-aa11"
    assert board.look() == (1500, 250_000, 60, 0, 0)
    assert board.uncorrected_errors() == 0
    described = board.describe()
    assert described["name"] == "NVIDIA Fake"
    assert described["driver"] == "580.10"
    assert described["cuda_driver"] == "13.0"
    assert described["persistence"] is True
    assert described["set_sm_mhz"] == described["max_sm_mhz"] == 1980
    board.close()
    assert nvml.calls[-1] == "nvmlShutdown"


def test_bits_are_those_of_the_driver_s_own_header() -> None:
    import pynvml

    named = ("SwPowerCap", "HwSlowdown", "SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown")
    bits = [getattr(pynvml, f"nvmlClocksEventReason{name}") for name in named]
    bits += [pynvml.nvmlClocksThrottleReasonBoardLimit, pynvml.nvmlClocksThrottleReasonReliability]
    assert sum(bits) == THROTTLED
    assert THROTTLED & pynvml.nvmlClocksEventReasonGpuIdle == 0
    assert THROTTLED & pynvml.nvmlClocksEventReasonApplicationsClocksSetting == 0


def test_the_fake_has_no_name_that_the_real_library_lacks(nvml: Any) -> None:
    import pynvml

    used = {name for name in {*dir(nvml), *vars(nvml)} if name.startswith(("nvml", "NVML"))}
    assert [name for name in sorted(used) if not hasattr(pynvml, name)] == []


def test_without_a_driver_there_is_no_gpu() -> None:
    # The real library, on a machine without one.
    if gpu.library() is not None:
        pytest.skip("this machine has a driver")
    assert Gpu.first() is None


@pytest.mark.parametrize("fault", ["NotSupported", "NoPermission", "FunctionNotFound"])
def test_what_a_board_does_not_support_is_asked_once(nvml: Any, fault: str) -> None:
    nvml.answers["nvmlDeviceGetPowerUsage"] = getattr(nvml, f"NVMLError_{fault}")
    board = opened(nvml)
    assert [board.look().power_mw for _ in range(3)] == [None] * 3
    assert nvml.calls.count("nvmlDeviceGetPowerUsage") == 1
    assert board.look().sm_mhz == 1500


def test_a_passing_fault_leaves_one_answer_out(nvml: Any) -> None:
    board = opened(nvml)
    nvml.answers["nvmlDeviceGetClockInfo"] = nvml.NVMLError_Timeout
    assert board.clock_mhz() is None
    nvml.answers["nvmlDeviceGetClockInfo"] = 1400
    assert board.clock_mhz() == 1400


@pytest.mark.parametrize("fault", ["GpuIsLost", "ResetRequired"])
def test_a_lost_device_is_one_sentence(nvml: Any, fault: str) -> None:
    board = opened(nvml)
    nvml.answers["nvmlDeviceGetTemperature"] = getattr(nvml, f"NVMLError_{fault}")
    with pytest.raises(TransientError, match="has lost the GPU GPU-aa11"):
        board.look()
    with pytest.raises(TransientError, match="has lost"):
        Gpu(nvml, "GPU-gone")


def test_processes_of_others_are_counted_and_our_own_are_not(nvml: Any) -> None:
    board = opened(nvml)
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as own,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, process_group=0) as other,
    ):
        nvml.answers["nvmlDeviceGetComputeRunningProcesses"] = [os.getpid(), own.pid]
        assert board.look().foreign == 0
        nvml.answers["nvmlDeviceGetGraphicsRunningProcesses"] = [other.pid]
        assert board.look().foreign == 1
        own.communicate(b"\n")
        other.communicate(b"\n")


def test_processes_of_another_namespace_mean_nothing(nvml: Any) -> None:
    nvml.answers["nvmlDeviceGetComputeRunningProcesses"] = [4_000_001, 4_000_002]
    assert opened(nvml).look().foreign is None
