"""One listing alone in a fresh process, before the blocks: what a process shared with others cannot tell.

Cold compile time, peak memory, energy, and whether equal inputs get equal outputs. Whatever breaks here is left out of
the session before it can break a block.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.engine.latency import energy, memory, process, runners

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from workers.engine.latency.group import Group
    from workers.engine.latency.points import Entry, OperatingPoint

COMPILE_S = 600.0
"""Most time to compile one listing; it gives no sign of life meanwhile."""

_SAME, _SAME_HALF = 1e-3, 2e-2
"""Difference of two outputs for one input, relative to the largest value, that rounding in another order explains, in
float32 and in 16 bits."""

_ENERGY_S = 0.3
_ENERGY_CALLS = 3


@dataclass(frozen=True)
class _Task:
    entry: Entry
    points: tuple[OperatingPoint, ...]
    seed: int


def survey(group: Group, work: Path, *, stall_s: float, memory_bytes: int | None) -> None:
    """Run each listing of a group alone; fill ``group.alone``, leave out what breaks.

    ``work`` is the session's own folder for this group. A group that is left with too few listings is stopped.
    """
    least = min(2, len(group.entries))
    compiles = group.points[0].runtime == "torch-compile"
    stall = max(stall_s, COMPILE_S) if compiles else stall_s
    limits = process.Limits(stall, 2 * stall * len(group.points), memory_bytes)
    if compiles:
        _prepare(work, limits)
    for number, entry in enumerate(list(group.entries)):
        folder = work / str(number)
        folder.mkdir(parents=True)
        mine = replace(entry, work=folder)
        group.entries[group.entries.index(entry)] = mine
        outcome = _run(_Task(mine, tuple(group.points), group.seed), limits)
        if outcome.result is None:
            reason = f"{entry.ref} broke while {outcome.stage.get('doing', 'starting')}: {outcome.reason}"
            group.excluded.append({"ref": entry.ref, "reason": reason})
            group.entries.remove(mine)
            if len(group.entries) < least:
                group.stop("failed", reason)
                break
            continue
        group.alone[entry.ref] = outcome.result


def _prepare(work: Path, limits: process.Limits) -> None:
    """Do what compiling needs once a session."""

    def body(_: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        from workers.engine.latency.runners.torch_module import precompile_headers

        precompile_headers(work)
        return {}

    process.run_forked(body, limits)  # should it fail, each listing says why


def _run(task: _Task, limits: process.Limits) -> process.Outcome:
    outcome = process.run_forked(lambda send: _measure(task, send), limits)
    fixed = outcome.result and outcome.result["fixed_batch"]
    if fixed is not None and any(point.batch != fixed for point in task.points):
        # Rewriting a graph needs memory that running it does not, so it has a process of its own.
        process.run_forked(lambda _: _free(task), limits)
        if task.entry.freed is not None:
            return process.run_forked(lambda send: _measure(task, send), limits)
    return outcome


def _free(task: _Task) -> dict[str, Any]:
    runner = runners.load(task.entry, task.points[0])
    if task.entry.work is not None:
        runner.free(task.entry.work)
    return {}


def _measure(task: _Task, send: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Load and run one entry at every point; batches grow, so that each point's peak is its own.

    ``points`` of the result has an object for each point, in their order.
    """
    meter = energy.Meter()
    peak = memory.Peak()
    send({"doing": "loading"})
    runner = runners.load(task.entry, task.points[0])
    refused = [runner.refusal(point) is not None for point in task.points]
    values: list[dict[str, Any]] = [_nothing() for _ in task.points]
    for index in sorted(range(len(task.points)), key=lambda at: task.points[at].batch):
        if refused[index]:
            continue
        point = task.points[index]
        send({"doing": f"running batch {point.batch}"})
        call = runner.call(point, task.seed)
        first, second = (runner.arrays(call()) for _ in range(2))
        values[index] = {
            "compile_ms": runner.compile_ms,
            "peak_rss_bytes": peak.growth(),
            "peak_device_bytes": runner.device_bytes(),
            "deterministic": equal(first, second, _SAME_HALF if "16" in point.precision else _SAME) if first else None,
            "energy_per_item_j": _energy(meter, call, point.batch),
        }
    return {
        "points": values,
        "fixed_batch": runner.fixed_batch,
        "settings": runner.settings(),
        "input_type": runner.input_type,
        "framework": runner.framework,
    }


def _nothing() -> dict[str, Any]:
    names = ("compile_ms", "peak_rss_bytes", "peak_device_bytes", "deterministic", "energy_per_item_j")
    return dict.fromkeys(names)


def equal(first: Sequence[npt.NDArray[Any]], second: Sequence[npt.NDArray[Any]], tolerance: float) -> bool:
    """Whether two outputs are the same but for rounding: within ``tolerance`` of the largest value of each array."""
    if [item.shape for item in first] != [item.shape for item in second]:
        return False
    for a, b in zip(first, second, strict=True):
        one, other = a.astype(np.float64), b.astype(np.float64)
        finite = np.isfinite(one)
        bound = tolerance * float(np.abs(one[finite]).max(initial=0))
        # Zero against zero is equal at any tolerance, and so is what is not finite in the same place.
        if not np.allclose(one, other, rtol=0, atol=bound, equal_nan=True):
            return False
    return True


def _energy(meter: energy.Meter, call: Callable[[], Any], batch: int) -> float | None:
    """Joules an item of all packages while this entry runs, whatever else runs beside it; None where nobody says."""
    if not meter.works:
        return None
    before, started, calls = meter.read(), time.perf_counter(), 0
    while calls < _ENERGY_CALLS or time.perf_counter() - started < _ENERGY_S:
        call()
        calls += 1
    return meter.joules(before, meter.read()) / (calls * batch)
