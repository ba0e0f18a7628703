import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import Settings
from workers import devices

ROOT = Path(__file__).parents[2]
SHOW = "from app.settings import Settings; from workers import devices; print(devices.places(Settings())['cpu'])"


def test_the_machine_is_the_kernel_whatever_the_host_is_called():
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert devices.places(Settings())["cpu"] == f"cpu of {boot}"
    # A container's host name: the same kernel in a namespace of its own.
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--uts",
        "sh",
        "-c",
        f'hostname other; {sys.executable} -c "{SHOW}"',
    ]
    seen = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "unshare" in seen.stderr:
        pytest.skip(f"no namespaces here: {seen.stderr.strip()}")
    assert seen.stdout.strip() == f"cpu of {boot}", seen.stderr


def test_a_setting_names_the_machine():
    assert devices.places(Settings(machine="rack 7"))["cpu"] == "cpu of rack 7"


def test_without_a_boot_id_the_host_name_has_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "_BOOT_ID", tmp_path / "none")
    monkeypatch.setattr(devices.platform, "node", lambda: "host")
    assert devices.machine(Settings()) == "host"


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, "GPU-aa11"),
        ("1,0", "GPU-bb22"),
        ("GPU-bb", "GPU-bb22"),
        ("MIG-1", "GPU-bb22"),
        ("7", "gpu of rack 7"),
        ("", "gpu of rack 7"),
        ("-1", "gpu of rack 7"),
    ],
)
def test_a_gpu_is_known_by_its_own_number(nvml, monkeypatch, visible, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.places(Settings(machine="rack 7"), nvml=nvml)["gpu"] == expected
