"""The machine as part of the result: what it is, how it is limited, and how busy it was."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("keras", "numpy", "onnxruntime", "timm", "torch", "torchvision")
_CGROUP = Path("/sys/fs/cgroup")
_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")


def describe() -> dict[str, Any]:
    """Describe this machine; null where the system does not say. ``fingerprint`` is the SHA-256 of all the rest.

    Latencies of different fingerprints are not comparable. Load is no part of it: see ``load``.
    """
    facts: dict[str, Any] = {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "logical_cores": os.cpu_count(),
        "affinity": sorted(os.sched_getaffinity(0)),
        "governor": _read(_CPUFREQ / "scaling_governor"),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "cgroup": {
            "cpu_max": _read(_CGROUP / "cpu.max") or _read(_CGROUP / "cpu" / "cpu.cfs_quota_us"),
            "memory_max": _read(_CGROUP / "memory.max") or _read(_CGROUP / "memory" / "memory.limit_in_bytes"),
        },
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "environment": {name: value for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if (value := os.getenv(name))},
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return facts | {"fingerprint": digest}


def load() -> list[float] | None:
    """Mean number of runnable processes over 1, 5 and 15 minutes, or None where the system does not say."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except OSError:
        return None


def _cpu_model() -> str | None:
    for line in (_read(Path("/proc/cpuinfo")) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
