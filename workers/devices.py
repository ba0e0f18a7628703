"""What an exclusive job takes a lease on: a processor or a GPU, by a name that every worker sharing it finds too."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.isolation import ENVIRONMENT
from workers.engine.latency import gpu

if TYPE_CHECKING:
    from app.settings import Settings

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def places(settings: Settings, *, nvml: Any | None = None) -> dict[str, str]:  # noqa: ANN401 - an untyped library
    """Return the name of this worker's device of each class, at most 200 characters.

    ``cpu`` is the machine. ``gpu`` is the GPU's own number, alike in every container that is given it; without a
    driver to ask, the machine's.
    """
    of_machine = machine(settings)
    nvml = nvml or gpu.library()
    uuid = gpu.name(nvml, {**os.environ, **ENVIRONMENT}) if nvml else None
    return {"cpu": f"cpu of {of_machine}", "gpu": uuid or f"gpu of {of_machine}"}


def machine(settings: Settings) -> str:
    """Return what all processes on this machine's processors share, and no process elsewhere.

    That is the kernel's boot id: containers have host names and machine ids of their own, but one kernel. Virtual
    machines on one host cannot see each other, which ``settings.machine`` is for.
    """
    if settings.machine is not None:
        return settings.machine
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return platform.node()
