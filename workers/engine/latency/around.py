"""What was recorded around the rounds of a block, as arrays, and which rounds it makes useless."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.engine.latency.gpu import REASONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

ADVICE = {
    "suspended": "keep the machine awake while it measures",
    "foreign_process": "end the other processes on the GPU, or choose another with CUDA_VISIBLE_DEVICES",
    "throttled": "lock the GPU's clock below what it throttles at (nvidia-smi --lock-gpu-clocks), or cool it",
}
"""What to do about rounds that were discarded, by the beginning of their cause."""


@dataclass(frozen=True)
class Around:
    """Each by round; of a GPU ``sm_mhz`` ``[round, slot]`` too, and None without one. -1: the device did not tell.

    ``steal`` in clock ticks, ``suspended_ns`` in ns, ``power_mw`` in mW; ``reasons`` are NVML's bits of why the clock
    is low, ``foreign`` counts other people's processes on the device. ``device`` is ``Conditions.columns``'s.
    """

    steal: Ints
    suspended_ns: Ints
    sm_mhz: Ints | None
    power_mw: Ints | None
    celsius: Ints | None
    reasons: Ints | None
    foreign: Ints | None
    device: dict[str, Any] | None

    @classmethod
    def from_json(cls, value: dict[str, Any], shape: tuple[int, int]) -> Around:
        """Read ``Conditions.columns`` of so many rounds and slots."""

        def column(name: str) -> Ints | None:
            return np.asarray(value[name], dtype=np.int64) if name in value else None

        nothing = np.zeros(shape[0], dtype=np.int64)
        steal, suspended_ns, sm_mhz = column("steal"), column("suspended_ns"), column("sm_mhz")
        return cls(
            steal=nothing if steal is None else steal,
            suspended_ns=nothing if suspended_ns is None else suspended_ns,
            sm_mhz=None if sm_mhz is None else sm_mhz.reshape(shape),
            power_mw=column("power_mw"),
            celsius=column("celsius"),
            reasons=column("reasons"),
            foreign=column("foreign"),
            device=value.get("device"),
        )

    def causes(self) -> dict[str, Bools]:
        """Return the causes that make a round useless, by round: all of its times, and nothing can be taken off."""
        found = {"suspended": self.suspended_ns > 0}
        if self.foreign is not None:
            found["foreign_process"] = self.foreign > 0
        if self.reasons is not None:
            told = np.maximum(self.reasons, 0)
            found |= {f"throttled_{name}": (told & bit) > 0 for name, bit in REASONS.items()}
        return found


def median(values: Sequence[float | None]) -> float | None:
    """Return the median of what is known, None when nothing is."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def summary(blocks: Sequence[Around]) -> dict[str, Any] | None:
    """Describe the device during some blocks, None without one; null where it did not tell.

    ``sm_mhz`` is the least, the median and the largest clock, ``power_w`` the median in W, ``celsius`` the largest.
    ``clock_us`` and ``look_us`` are what the questions cost; ``uncorrected_errors`` are of its memory.
    """
    devices = [block.device for block in blocks if block.device is not None]
    if not devices:
        return None
    clocks, power, celsius = (_known(blocks, name) for name in ("sm_mhz", "power_mw", "celsius"))
    errors = [device["uncorrected_errors"] for device in devices if device["uncorrected_errors"] is not None]
    return {
        "uuid": devices[0]["uuid"],
        "sm_mhz": [float(value) for value in np.quantile(clocks, [0, 0.5, 1])] if len(clocks) else None,
        "power_w": float(np.median(power)) / 1e3 if len(power) else None,
        "celsius": int(celsius.max()) if len(celsius) else None,
        "uncorrected_errors": sum(errors) if errors else None,
        **{name: median([device[name] for device in devices]) for name in ("clock_us", "look_us")},
    }


def _known(blocks: Sequence[Around], name: str) -> Ints:
    """Return what the device told in one column, over all blocks."""
    columns = [getattr(block, name) for block in blocks if getattr(block, name) is not None]
    values = np.concatenate([column.ravel() for column in columns]) if columns else np.zeros(0, dtype=np.int64)
    return values[values >= 0]


def why_useless(counts: dict[str, int]) -> str:
    """Say why no round could be used, from ``discarded_json``'s counts, and what to do."""
    useless = {cause: count for cause, count in counts.items() if cause.startswith(tuple(ADVICE)) and count}
    said = ", ".join(f"{cause.replace('_', ' ')} ({count} iterations)" for cause, count in useless.items())
    advice = "; ".join(todo for beginning, todo in ADVICE.items() if any(c.startswith(beginning) for c in useless))
    return f"every round was discarded: {said}; {advice}"
