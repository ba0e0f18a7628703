"""One GPU as its driver describes it: clocks, power, temperature, why it is slow, and who else uses it.

Everything is asked through ``nvidia-ml-py``, which talks to the driver and starts no CUDA context. A call is an ioctl;
NVIDIA states no cost for it, so that callers time their own (``conditions``).
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from workers.engine.protocol import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REASONS = {
    "power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sw_thermal": 0x20,
    "hw_thermal": 0x40,
    "power_brake": 0x80,
    "board_limit": 0x200,
    "reliability": 0x400,
}
"""Bits of NVML's clocks event reasons (nvml.h, nvmlClocksEventReasons) that make a time say less about the model.

The others are no disturbance: an idle device, clocks set by whoever owns it, boards kept in step.
"""
THROTTLED = sum(REASONS.values())


class Look(NamedTuple):
    """The device at one moment; None where it does not tell. ``reasons`` are NVML's bits, ``foreign`` counts users.

    SM clock in MHz, power in mW (averaged by the board, over a second on some), temperature in degrees Celsius.
    """

    sm_mhz: int | None
    power_mw: int | None
    celsius: int | None
    reasons: int | None
    foreign: int | None


def library() -> Any | None:
    """Return ``pynvml``, started; None without the package, a driver or permission to ask it."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def name(nvml: Any, environment: Mapping[str, str]) -> str | None:
    """Return the UUID of the GPU that CUDA calls device 0 in a process of this environment; None when there is none.

    Counts in the bus's order, as CUDA does under ``CUDA_DEVICE_ORDER=PCI_BUS_ID``. For a slice of a GPU it is that of
    the whole one: slices share clock and power.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    first = "0" if visible is None else visible.split(",")[0].strip()
    if not first or first == "-1":
        return None
    try:
        if first.isdigit():
            return str(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(int(first))))
        if first.startswith("MIG-"):
            whole = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvml.nvmlDeviceGetHandleByUUID(first))
            return str(nvml.nvmlDeviceGetUUID(whole))
        known = [
            str(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(index)))
            for index in range(nvml.nvmlDeviceGetCount())
        ]
        # CUDA takes the beginning of a UUID for the whole.
        return next((uuid for uuid in known if uuid.startswith(first)), None)
    except nvml.NVMLError:
        return None


class Gpu:
    """One GPU, for the process that times calls on it. Questions that it does not support are asked once."""

    def __init__(self, nvml: Any, uuid: str) -> None:
        """Raise TransientError when the driver has lost the device."""
        self.uuid = uuid
        self._nvml = nvml
        self._unsupported: set[Any] = set()
        try:
            self._handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        except nvml.NVMLError as error:
            raise self._lost() from error

    @classmethod
    def first(cls, nvml: Any | None = None, environment: Mapping[str, str] = os.environ) -> Self | None:
        """Return the GPU that CUDA calls device 0, or None when there is none or its driver cannot be asked."""
        nvml = nvml or library()
        uuid = None if nvml is None else name(nvml, environment)
        return None if uuid is None else cls(nvml, uuid)

    def close(self) -> None:
        """Let go of the driver: a process that has asked it must not be forked before."""
        self._nvml.nvmlShutdown()

    def clock_mhz(self) -> int | None:
        """Return the present SM clock."""
        nvml = self._nvml
        return self._told(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM)

    def look(self) -> Look:
        """Ask for everything that may disturb a round. Raises TransientError when the device is gone."""
        nvml = self._nvml
        return Look(
            sm_mhz=self.clock_mhz(),
            power_mw=self._told(nvml.nvmlDeviceGetPowerUsage),
            celsius=self._told(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            reasons=self._told(nvml.nvmlDeviceGetCurrentClocksEventReasons),
            foreign=self._foreign(),
        )

    def uncorrected_errors(self) -> int | None:
        """Return the memory errors that ECC could not correct since the driver was loaded."""
        nvml = self._nvml
        return self._told(
            nvml.nvmlDeviceGetTotalEccErrors, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        )

    def describe(self) -> dict[str, Any]:
        """Return what the device is and how it is set, for the machine's fingerprint; None where it does not tell."""
        nvml = self._nvml
        memory = self._told(nvml.nvmlDeviceGetMemoryInfo)
        ecc = self._told(nvml.nvmlDeviceGetEccMode)
        cuda = self._told_by_driver(nvml.nvmlSystemGetCudaDriverVersion_v2)
        return {
            "name": _text(self._told(nvml.nvmlDeviceGetName)),
            "memory_bytes": None if memory is None else int(memory.total),
            "max_sm_mhz": self._told(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM),
            "max_memory_mhz": self._told(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_MEM),
            "set_sm_mhz": self._told(nvml.nvmlDeviceGetApplicationsClock, nvml.NVML_CLOCK_SM),
            "power_limit_mw": self._told(nvml.nvmlDeviceGetEnforcedPowerLimit),
            "persistence": _flag(self._told(nvml.nvmlDeviceGetPersistenceMode)),
            "ecc": None if ecc is None else bool(ecc[0]),
            "mig": _mig(self._told(nvml.nvmlDeviceGetMigMode)),
            "driver": _text(self._told_by_driver(nvml.nvmlSystemGetDriverVersion)),
            "cuda_driver": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        }

    def _foreign(self) -> int | None:
        """Count the processes on the device that are not of this process group; None when that cannot be told.

        A container may see its processes under numbers of another namespace: they mean nothing unless this process's
        own number, which holds the device, is among them.
        """
        nvml = self._nvml
        found: set[int] = set()
        for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
            told = self._told(ask)
            if told is None:
                return None
            found |= {process.pid for process in told}
        return None if os.getpid() not in found else sum(not _ours(pid) for pid in found)

    def _told(self, ask: Callable[..., Any], *arguments: Any) -> Any | None:
        return self._told_by_driver(ask, self._handle, *arguments)

    def _told_by_driver(self, ask: Callable[..., Any], *arguments: Any) -> Any | None:
        if ask in self._unsupported:
            return None
        nvml = self._nvml
        try:
            return ask(*arguments)
        except (nvml.NVMLError_GpuIsLost, nvml.NVMLError_ResetRequired) as error:
            raise self._lost() from error
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission, nvml.NVMLError_FunctionNotFound):
            self._unsupported.add(ask)
            return None
        except nvml.NVMLError:
            return None

    def _lost(self) -> TransientError:
        return TransientError(
            "gpu-lost",
            f"The driver has lost the GPU {self.uuid}; look for its Xid in the kernel's log, reset it, and ask again.",
        )


def _ours(pid: int) -> bool:
    """Whether a process belongs to this one's group; one that has just ended disturbs nobody any more."""
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(pid) == os.getpgrp()
    return False


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def _flag(value: Any) -> bool | None:
    return None if value is None else bool(value)


def _mig(value: Any) -> bool | None:
    return None if value is None else bool(value[0])
