"""Times calls, and records what disturbed them."""

from __future__ import annotations

import os
import resource
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable


class Tick(NamedTuple):
    """One turn: a timed call, or several one right after the other.

    ``call_ns`` is each call's wall time (of the device alone, for a ``DeviceCall``). Of all calls together: CPU time of
    all threads in ns; involuntary context switches; and the ns in which the calling thread was ready to run but
    another one had its core.
    """

    call_ns: list[int]
    cpu_ns: int
    switches: int
    wait_ns: int

    @property
    def wall_ns(self) -> int:
        """Wall time of all calls together."""
        return sum(self.call_ns)


class DeviceCall(Protocol):
    """A call whose device keeps the time."""

    def __call__(self) -> Any:
        """Run, and wait until the device has finished."""

    def device_ns(self) -> int:
        """Return the ns that the device took for the last call."""


class Clock:
    """Times calls that use ``threads`` threads; to be made in the process and thread that calls.

    ``on_device``: the calls are ``DeviceCall``; what the thread waited for is then no part of their time.
    """

    def __init__(self, threads: int, *, on_device: bool = False) -> None:
        self._on_device = on_device
        # With one thread only the calling thread matters; a runtime's idle helpers are not to be counted.
        self._scope = resource.RUSAGE_THREAD if threads == 1 else resource.RUSAGE_SELF
        self._schedstat = _open("/proc/thread-self/schedstat")

    def timed(self, call: Callable[[], Any], calls: int = 1) -> Tick:
        """Time so many calls; everything but the clock itself is read outside the timed spans."""
        call_ns = []
        now = time.perf_counter_ns
        switches = resource.getrusage(self._scope).ru_nivcsw
        cpu = time.process_time_ns()
        wait = self._waited()
        for _ in range(calls):
            start = now()
            call()
            call_ns.append(now() - start)
            if self._on_device:
                call_ns[-1] = cast("DeviceCall", call).device_ns()
        wait = self._waited() - wait
        cpu = time.process_time_ns() - cpu
        switches = resource.getrusage(self._scope).ru_nivcsw - switches
        return Tick(call_ns, cpu, switches, wait)

    def measures_waits(self) -> bool:
        """Whether the kernel says how long a thread waited for a core (it is built with CONFIG_SCHED_INFO).

        A device's own time holds none of that waiting.
        """
        return self._schedstat is not None and not self._on_device

    def _waited(self) -> int:
        """Return the ns this thread has spent ready but not running; see the kernel's sched-stats documentation."""
        return 0 if self._schedstat is None else int(os.pread(self._schedstat, 128, 0).split()[1])


class Steal:
    """Reads the time that the hypervisor took from this machine, in clock ticks (usually 10 ms)."""

    def __init__(self) -> None:
        self._file = _open("/proc/stat")

    def ticks(self) -> int:
        """Return the ticks stolen since boot, over all cores; 0 when the system does not say."""
        if self._file is None:
            return 0
        fields = os.pread(self._file, 256, 0).split(b"\n", 1)[0].split()
        stolen = 8  # "cpu user nice system idle iowait irq softirq steal ..."
        return int(fields[stolen]) if len(fields) > stolen else 0


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
