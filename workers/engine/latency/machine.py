"""The machine as part of the result: what it is, how it is limited, and how busy it was."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.latency import cgroup

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.engine.latency.gpu import Gpu

_PACKAGES = ("keras", "numpy", "onnxruntime", "onnxruntime-gpu", "timm", "torch", "torchvision")
_CUDA_PACKAGES = ("nvidia-cublas", "nvidia-cuda-runtime", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13")
_VARIABLES = (
    "OMP_NUM_THREADS",
    "OMP_PROC_BIND",
    "OMP_WAIT_POLICY",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "LD_PRELOAD",
    "MALLOC_ARENA_MAX",
    "CUDA_LAUNCH_BLOCKING",
    "NVIDIA_TF32_OVERRIDE",
)
_SYSTEM_CPU = Path("/sys/devices/system/cpu")
_CPUINFO = Path("/proc/cpuinfo")
_STAT = Path("/proc/stat")
_GIB = 2**30
_SHORT = 12
"""Digits of a fingerprint that are shown."""


def describe(gpu: Gpu | None = None) -> dict[str, Any]:
    """Describe this machine, and the GPU if one is used; null where the system does not say.

    ``hardware`` is the SHA-256 of what the machine is and may use, ``fingerprint`` of that and its software. Latencies
    of different fingerprints are not comparable as they are; those of one hardware are, once the software that changed
    is named. ``short`` and ``line`` are for people. Outside both are load, which cores were given, and the numeric
    libraries, which follow from the packages but are listed as far as they happen to be loaded.
    """
    cores = sorted(os.sched_getaffinity(0))
    hardware: dict[str, Any] = {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "logical_cores": os.cpu_count(),
        "usable_cores": len(cores),
        "physical_cores": _physical(cores),
        "smt": _switch(_SYSTEM_CPU / "smt" / "active"),
        "governor": _of_each(cores, "scaling_governor"),
        "max_khz": _of_each(cores, "cpuinfo_max_freq"),
        "boost": _boost(),
        # In whole GiB: what the kernel keeps for itself differs from boot to boot.
        "memory_bytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB) * _GIB,
        "cgroup": {name: value for name, value in cgroup.limits().items() if name != "cpuset"},
        "gpu": None,
    }
    software: dict[str, Any] = {
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": _versions(_PACKAGES),
        "environment": {name: value for name in _VARIABLES if (value := os.getenv(name))},
        "gpu_software": None,
    }
    if gpu is not None:
        board = gpu.describe()
        of_driver = {name: board.pop(name) for name in ("driver", "cuda_driver")}
        hardware["gpu"], software["gpu_software"] = board, of_driver | _versions(_CUDA_PACKAGES)
    facts = hardware | software
    fingerprint = _digest(facts)
    return facts | {
        "affinity": cores,
        "cpuset": cgroup.limits()["cpuset"],
        "libraries": _libraries(),
        "hardware": _digest(hardware),
        "fingerprint": fingerprint,
        "short": fingerprint[:_SHORT],
        "line": _line(facts),
    }


def load() -> list[float] | None:
    """Mean number of runnable processes over 1, 5 and 15 minutes, or None where the system does not say."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except OSError:
        return None


class Busy:
    """Tells how many cores worked for others since it was made, over the whole machine and all its containers."""

    def __init__(self) -> None:
        self._started, self._busy_s = time.monotonic(), _busy_s()

    def beside(self, own_cpu_s: float) -> float | None:
        """Return busy cores beside ``own_cpu_s`` seconds of CPU time that were ours; None where nobody says.

        Time that the hypervisor gave to other machines counts as theirs.
        """
        busy_s, seconds = _busy_s(), time.monotonic() - self._started
        if busy_s is None or self._busy_s is None or seconds <= 0:
            return None
        return round(max(0.0, busy_s - self._busy_s - own_cpu_s) / seconds, 2)


def _busy_s() -> float | None:
    fields = (_read(_STAT) or "").split("\n", 1)[0].split()
    if len(fields) < 9:  # noqa: PLR2004 - "cpu" and the eight times up to steal
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _line(facts: dict[str, Any]) -> str:
    """Return the machine in one line, as people name it."""
    cores = f"{facts['usable_cores']} of {facts['logical_cores']} cores"
    limit = facts["cgroup"]["cpus"]
    parts = [
        facts["cpu"] or facts["architecture"],
        cores if limit is None else f"{cores}, at most {limit:g}",
        *([f"governor {'/'.join(facts['governor'])}"] if facts["governor"] else []),
        *([f"boost {'on' if facts['boost'] else 'off'}"] if facts["boost"] is not None else []),
        *([str(facts["gpu"]["name"])] if facts["gpu"] else []),
        facts["kernel"],
        *(f"{name} {facts['packages'][name]}" for name in ("onnxruntime", "torch") if name in facts["packages"]),
    ]
    return ", ".join(parts)


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _cpu_model() -> str | None:
    for line in (_read(_CPUINFO) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or None


def _physical(cores: Iterable[int]) -> int | None:
    """Count the cores that these hardware threads belong to."""
    folders = [_SYSTEM_CPU / f"cpu{core}" / "topology" for core in cores]
    found = {(_read(folder / "physical_package_id"), _read(folder / "core_id")) for folder in folders}
    return None if any(core is None for _, core in found) else len(found)


def _of_each(cores: Iterable[int], name: str) -> list[str]:
    """Return the different values of a frequency setting over cores; a processor may have two kinds of them."""
    values = (_read(_SYSTEM_CPU / f"cpu{core}" / "cpufreq" / name) for core in cores)
    return sorted({value for value in values if value is not None})


def _boost() -> bool | None:
    """Whether the clock may go beyond its nominal one."""
    off = _switch(_SYSTEM_CPU / "intel_pstate" / "no_turbo")
    return _switch(_SYSTEM_CPU / "cpufreq" / "boost") if off is None else not off


def _switch(path: Path) -> bool | None:
    value = _read(path)
    return None if value is None else value == "1"


def _libraries() -> list[dict[str, Any]]:
    """Return the BLAS and OpenMP libraries that are loaded, with their builds and threads."""
    from threadpoolctl import threadpool_info

    names = ("internal_api", "version", "architecture", "threading_layer", "num_threads")
    return [{name: info.get(name) for name in names} for info in threadpool_info()]


def _versions(packages: Iterable[str]) -> dict[str, str]:
    return {name: version for name in packages if (version := _version(name))}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None
