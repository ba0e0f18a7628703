import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workers.engine.latency import machine
from workers.engine.latency.gpu import Gpu


def test_the_fingerprint_is_stable_and_names_the_machine() -> None:
    first, second = machine.describe(), machine.describe()
    assert first == second
    assert len(first["fingerprint"]) == 64
    assert first["logical_cores"] == os.cpu_count()
    assert first["kernel"].split()[1] == os.uname().release
    assert "onnxruntime" in first["packages"]
    json.dumps(first, allow_nan=False)


def test_another_affinity_is_another_fingerprint() -> None:
    cores = os.sched_getaffinity(0)
    whole = machine.describe()["fingerprint"]
    os.sched_setaffinity(0, {min(cores)})
    try:
        narrowed = machine.describe()["fingerprint"]
    finally:
        os.sched_setaffinity(0, cores)
    assert (whole == narrowed) == (len(cores) == 1)


def planted(folder: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(machine, "_SYSTEM_CPU", folder)


def test_frequency_settings_are_part_of_the_hardware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    files = {f"cpu{core}__topology__core_id": str(core // 2) for core in range(4)}
    files |= {f"cpu{core}__topology__physical_package_id": "0" for core in range(4)}
    files |= {f"cpu{core}__cpufreq__scaling_governor": "powersave" for core in range(4)}
    planted(tmp_path, monkeypatch, smt__active="1", intel_pstate__no_turbo="0", **files)
    slow = machine.describe()
    assert (slow["physical_cores"], slow["smt"], slow["governor"], slow["boost"]) == (2, True, ["powersave"], True)
    assert "governor powersave, boost on" in slow["line"]
    planted(tmp_path, monkeypatch, **{f"cpu{core}__cpufreq__scaling_governor": "performance" for core in range(4)})
    fast = machine.describe()
    assert fast["hardware"] != slow["hardware"]
    planted(tmp_path, monkeypatch, intel_pstate__no_turbo="1")
    assert machine.describe()["boost"] is False
    assert machine.describe()["hardware"] != fast["hardware"]


def test_software_changes_the_fingerprint_and_not_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine.describe()
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    after = machine.describe()
    assert after["hardware"] == before["hardware"]
    assert after["fingerprint"] != before["fingerprint"]
    assert after["fingerprint"].startswith(after["short"])


def test_a_gpu_is_hardware_and_its_driver_software(nvml: Any) -> None:
    board = Gpu.first(nvml, {})
    before = machine.describe(board)
    assert "NVIDIA Fake" in before["line"]
    nvml.answers["nvmlSystemGetDriverVersion"] = "590.1"
    other_driver = machine.describe(board)
    assert other_driver["hardware"] == before["hardware"]
    assert other_driver["fingerprint"] != before["fingerprint"]
    nvml.answers["nvmlDeviceGetEnforcedPowerLimit"] = 300_000
    assert machine.describe(board)["hardware"] != before["hardware"]
    assert machine.describe()["gpu"] is None


def test_cores_busy_beside_are_those_of_others() -> None:
    code = "import time; end = time.monotonic() + 1.0\nwhile time.monotonic() < end: pass"
    busy = machine.Busy()
    done = subprocess.Popen([sys.executable, "-c", code])
    _, _, usage = os.wait4(done.pid, 0)
    done.returncode = 0
    spent = usage.ru_utime + usage.ru_stime
    everything, others = busy.beside(0.0), busy.beside(spent)
    assert everything is not None
    assert others is not None
    assert everything >= 0.3
    # Both looks are moments apart: what lies between them is the process's own time.
    assert everything - others > 0.2 or others == 0.0


def test_where_nobody_counts_busy_cores_none_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_STAT", tmp_path / "none")
    assert machine.Busy().beside(0.0) is None
