"""A latency session: k listings and a control, at some operating points, within a budget."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.engine.latency import alone, analysis, around, framework, machine, runners
from workers.engine.latency.conditions import UNKNOWN
from workers.engine.latency.gpu import Gpu
from workers.engine.latency.group import Group
from workers.engine.protocol import SubjectError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.engine.latency.points import Entry, OperatingPoint
    from workers.engine.protocol import Progress

_LEAST_STALL_S = 30.0


@dataclass(frozen=True)
class Session:
    """What a session measured; see ``to_json`` for the figures and ``write_samples`` for every raw time."""

    points: list[OperatingPoint]
    groups: list[Group]
    margin: float
    budget_s: float
    seed: int
    alone_s: float
    seconds: float
    machine: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the session's figures; ms, ratios as time of a over time of b, null where nothing supports one."""
        return {
            "operating_points": [self._point_json(point) for point in self.points],
            "machine": self.machine,
            "margin": self.margin,
            "budget_s": self.budget_s,
            "alone_s": self.alone_s,
            "seconds": self.seconds,
            "seed": self.seed,
        }

    def _point_json(self, point: OperatingPoint) -> dict[str, Any]:
        group, index, result = self._of(point)
        value: dict[str, Any] = point.to_json() | {
            "identity": _identity(point),
            "settings": {
                entry.runtime(point): group.alone[entry.ref]["settings"]
                for entry in group.entries
                if entry.ref in group.alone
            },
            "entries": [],
            "pairs": [],
            "control": None,
            "blocks": 0,
            "discarded": analysis.discarded_json([blocks[index] for blocks in group.blocks]),
            "busy_beside": None,
            "device_conditions": None,
            "warmup_iterations": None,
            "warmup_agreed": None,
            "void": False,
            "attempts": group.attempt,
            "stopped": group.stopped,
            "reason": group.reason,
            "excluded": [*group.excluded, *group.refused.get(index, [])],
            "failures": group.failures,
            "apart": group.apart,
            "pilot": None if group.pilot is None else asdict(group.pilot),
            "scatter": asdict(group.scatter()) if group.blocks else None,
            "seconds": group.spent_s,
        }
        if result is not None:
            return value | self._figures(point, group, result)
        if any(blocks[index].slots for blocks in group.blocks):
            value["reason"] = around.why_useless(value["discarded"])
        return value

    def _of(self, point: OperatingPoint) -> tuple[Group, int, analysis.PointResult | None]:
        """Return a point's group, its place there, and what was measured at it."""
        group = next(group for group in self.groups if point in group.points)
        index = group.points.index(point)
        return group, index, group.results()[index]

    def _figures(self, point: OperatingPoint, group: Group, result: analysis.PointResult) -> dict[str, Any]:
        blocks = result.blocks
        refs = _refs(group, result)
        control = result.control
        return {
            "entries": [
                _entry_json(group.entries[blocks[0].slots[slot]], slot, point, group, blocks)
                for slot in range(len(refs) - blocks[0].control)
            ],
            "pairs": [
                analysis.pair_json(item, refs, self.margin) | {"framework": self._framework(point, item, refs)}
                for item in result.pairs
            ],
            "control": {
                "ref": refs[control.a],
                "ratio": control.wall.ratio,
                "ci95": list(control.wall.ci95) if control.wall.ci95 else None,
            }
            if control
            else None,
            "blocks": len(blocks),
            "busy_beside": around.median([block.busy_beside for block in blocks]),
            "device_conditions": around.summary([block.around for block in blocks]),
            "warmup_iterations": int(np.median([block.warmup_iterations for block in blocks])),
            "warmup_agreed": float(np.mean([block.warmup_agreed for block in blocks])),
            "void": result.void(self.margin),
        }

    def _framework(self, point: OperatingPoint, native: analysis.Pair, refs: Sequence[str]) -> dict[str, Any] | None:
        """Compare a pair on its native runtimes with the same pair on the first runtime that both share, if any."""
        if point.runtime != "native":
            return None
        wanted = (refs[native.a], refs[native.b])
        for other in self.points:
            group, _, result = self._of(other)
            if other == point or other.on("native") != point or result is None or result.void(self.margin):
                continue
            names = _refs(group, result)
            found = next((item for item in result.pairs if (names[item.a], names[item.b]) == wanted), None)
            if found is not None:
                mine = self._of(point)[2]
                here = framework.log_ratios(mine.blocks if mine else [], native.a, native.b)
                there = framework.log_ratios(result.blocks, found.a, found.b)
                return {"common": other.runtime} | framework.compare(here, there)
        return None

    def write_samples(self, path: Path) -> None:
        """Write every timed call as a compressed npz, one row each, voided attempts and discarded ones included.

        ``point`` indexes the session's operating points and ``entry`` the array ``refs``; ``control`` marks the second
        copy of a listing; ``order`` is its turn's place within the round, ``call`` the place in the turn, since short
        models are called several times in each. ``wall_ns`` is the call's time; of its whole turn are ``cpu_ns``;
        ``switches`` counts involuntary context switches; ``wait_ns`` is time spent ready but without a core; ``steal``
        is clock ticks during the round; ``preempted``, ``stolen`` and ``useless`` are the causes to discard, the last
        for what ``suspended_ns`` and, of a GPU, ``reasons`` (NVML's bits) and ``foreign`` (other processes on it) say.
        ``sm_mhz``, ``power_mw`` and ``celsius`` are the GPU's; -1 where there is none, or it does not tell.
        """
        refs: list[str] = []
        columns: dict[str, list[Any]] = {}
        for number, point in enumerate(self.points):
            group = next(group for group in self.groups if point in group.points)
            for blocks in [*group.voided, *group.blocks]:
                _append(columns, refs, number, blocks[group.points.index(point)], [item.ref for item in group.entries])
        arrays: dict[str, Any] = {name: np.concatenate(parts) for name, parts in columns.items()}
        np.savez_compressed(path, refs=np.array(refs, dtype=np.str_), **arrays)


def _refs(group: Group, result: analysis.PointResult) -> list[str]:
    """Return the reference behind each slot of a point's blocks."""
    return [group.entries[entry].ref for entry in result.blocks[0].slots]


def _entry_json(
    entry: Entry, slot: int, point: OperatingPoint, group: Group, blocks: Sequence[analysis.PointBlock]
) -> dict[str, Any]:
    """Return one listing's figures at a point: of the blocks, and of its run alone."""
    timed = analysis.entry_json(entry.ref, slot, blocks)
    runtime = entry.runtime(point)
    mine = group.alone[entry.ref]
    return timed | {
        "runtime": runtime,
        "framework": mine["framework"],
        "input_type": mine["input_type"],
        "freed_batch": runtime == "onnxruntime" and mine["fixed_batch"] not in {None, point.batch},
        "throughput": 1e3 * point.batch / timed["median_ms"],
        **mine["points"][group.points.index(point)],
    }


def _identity(point: OperatingPoint) -> dict[str, Any]:
    """Return what tells this point from others: the fields that are not the default.

    A field that is added later, with a default that measures as before, leaves the identity of earlier points alone.
    """
    return {each.name: value for each in fields(point) if (value := getattr(point, each.name)) != each.default}


def _append(
    columns: dict[str, list[Any]], refs: list[str], point: int, block: analysis.PointBlock, names: Sequence[str]
) -> None:
    """Append one block's calls, flattened, to the columns."""
    if not block.slots:
        return
    shape, calls = block.wall_ns.shape, block.call_ns.shape
    listed = [names[entry] for entry in block.slots]
    refs.extend(name for name in dict.fromkeys(listed) if name not in refs)
    last = np.arange(shape[1]) == shape[1] - 1
    causes, beside = block.causes(), block.around
    rows = {
        "point": np.full(shape, point),
        "attempt": np.full(shape, block.attempt),
        "block": np.full(shape, block.number),
        "round": np.broadcast_to(np.arange(shape[0])[:, None], shape),
        "entry": np.broadcast_to([refs.index(name) for name in listed], shape),
        "slot": np.broadcast_to(np.arange(shape[1]), shape),
        "control": np.broadcast_to(last & block.control, shape),
        "order": block.place,
        "cpu_ns": block.cpu_ns,
        "switches": block.switches,
        "wait_ns": block.wait_ns,
        "preempted": causes["preempted"],
        "stolen": causes["steal"],
        "useless": np.broadcast_to(~block.usable()[:, None], shape),
        "sm_mhz": np.full(shape, UNKNOWN) if beside.sm_mhz is None else beside.sm_mhz,
    }
    for name in ("steal", "suspended_ns", "power_mw", "celsius", "reasons", "foreign"):
        column = getattr(beside, name)
        rows[name] = np.broadcast_to(UNKNOWN if column is None else column[:, None], shape)
    by_call = {name: np.broadcast_to(value[:, :, None], calls) for name, value in rows.items()}
    by_call |= {"call": np.broadcast_to(np.arange(calls[2]), calls), "wall_ns": block.call_ns}
    for name, value in by_call.items():
        columns.setdefault(name, []).append(value.ravel())


def measure(
    entries: list[Entry],
    points: list[OperatingPoint],
    *,
    budget_s: float,
    margin: float,
    seed: int,
    progress: Progress,
    stall_s: float | None = None,
    memory_bytes: int | None = None,
    scratch: Path | None = None,
) -> Session:
    """Measure every entry at every point within ``budget_s`` seconds of wall time.

    A group of points stops when every pair is decided against ``margin`` (a fraction) and its interval is narrow, or
    sits on the margin, or when the budget is spent; a group whose control moved is measured once more if time is left.
    A listing that breaks its process is left out while at least two others stand, a block that breaks later is
    recorded. A block silent for ``stall_s`` (default: the budget, at least 30 s) is killed, and one that takes this
    process and itself beyond ``memory_bytes`` of resident memory. One block of each group always runs, even when it
    alone takes longer than the budget. Before that, beside the budget, each listing runs alone
    (``alone.survey``). What is made on the way (compiled code, rewritten graphs) lies under ``scratch`` and is removed.

    Importing the runtimes, once, is not part of the budget; what the entries' modules need besides (timm, keras) is
    best imported by the caller too. The calling process must be single threaded, with no model run on more than one
    thread: blocks are forked from it.
    Raises UsageError for a request that cannot be measured, SubjectError when nothing at all could be.
    """
    _check(entries, points, budget_s=budget_s, margin=margin)
    points = _distinct(points, entries)
    groups = _groups(entries, points, margin=margin, seed=seed)
    for group in groups:
        if group.stopped is None:
            runners.preload(*(entry.runtime(group.points[0]) for entry in group.entries))
    facts = _machine(points)
    before, began = machine.load(), time.monotonic()
    stall = max(_LEAST_STALL_S, budget_s) if stall_s is None else stall_s
    with tempfile.TemporaryDirectory(dir=scratch) as work:
        _survey(groups, Path(work), progress, stall_s=stall, memory_bytes=memory_bytes)
        started = time.monotonic()
        _run_blocks(groups, started, progress, budget_s=budget_s, stall_s=stall, memory_bytes=memory_bytes)
    if not any(group.blocks for group in groups):
        raise SubjectError("latency-failed", _nothing(groups))
    facts |= {"load_before": before, "load_after": machine.load()}
    progress(max(1, int(budget_s)), max(1, int(budget_s)), "latency measured")
    return Session(points, groups, margin, budget_s, seed, started - began, time.monotonic() - started, facts)


def _survey(groups: list[Group], work: Path, progress: Progress, *, stall_s: float, memory_bytes: int | None) -> None:
    """Run every listing alone, in each group that it belongs to."""
    for number, group in enumerate(groups):
        if group.stopped is None:
            progress(0, len(groups), f"latency on {group.points[0].runtime}: each model alone")
            alone.survey(group, work / str(number), stall_s=stall_s, memory_bytes=memory_bytes)


def _run_blocks(
    groups: list[Group],
    started: float,
    progress: Progress,
    *,
    budget_s: float,
    stall_s: float,
    memory_bytes: int | None,
) -> None:
    """Run blocks of all groups in turn until each has stopped; ``started`` (monotonic, s) is when the budget began."""
    while open_groups := [group for group in groups if group.stopped is None]:
        group = min(open_groups, key=lambda item: item.spent_s)
        left = (started + budget_s - time.monotonic()) / len(open_groups)
        if not group.affords(left):
            group.stop("budget", f"the budget of {budget_s:g} s was spent after {len(group.blocks)} blocks")
            continue
        done = min(int(time.monotonic() - started), int(budget_s))
        progress(done, max(1, int(budget_s)), f"latency on {group.points[0].runtime}: {group.forecast()}")
        group.run_block(left_s=max(left, 0.0), budget_s=budget_s, stall_s=stall_s, memory_bytes=memory_bytes)
        rest = (started + budget_s - time.monotonic()) / len(open_groups)
        if group.stopped in {"decided", "precise"} and group.attempt == 1 and group.void() and group.affords(rest):
            group.rerun()


def _machine(points: list[OperatingPoint]) -> dict[str, Any]:
    """Describe this machine, with the GPU if a point needs it; before any block, which may cost us the GPU."""
    gpu = Gpu.first() if any(point.device != "cpu" for point in points) else None
    if gpu is None:
        return machine.describe()
    try:
        return machine.describe(gpu)
    finally:
        gpu.close()


def _check(entries: list[Entry], points: list[OperatingPoint], *, budget_s: float, margin: float) -> None:
    """Refuse a request that cannot be measured; raises UsageError."""
    if not entries or not points:
        raise UsageError("nothing-to-measure", "A latency session needs at least one listing and one operating point.")
    if not (budget_s > 0 and margin > 0):
        raise UsageError(
            "bad-latency-budget", f"Budget {budget_s:g} s and margin {margin:g} must both be greater than zero."
        )
    for point in points:
        point.check()


def _distinct(points: list[OperatingPoint], entries: list[Entry]) -> list[OperatingPoint]:
    """Return the points once each; less a native one where every listing's own runtime is another point's."""
    kept = list(dict.fromkeys(points))
    for point in list(kept):
        runtimes = {entry.runtime(point) for entry in entries}
        if point.runtime == "native" and len(runtimes) == 1 and point.on(*runtimes) in kept:
            kept.remove(point)
    return kept


def _groups(entries: list[Entry], points: list[OperatingPoint], *, margin: float, seed: int) -> list[Group]:
    """Sort points into groups."""
    grouped: dict[OperatingPoint, Group] = {}
    for point in points:
        if point.process not in grouped:
            grouped[point.process] = Group([item for item in entries if item.runs_at(point)], [], margin, seed)
        grouped[point.process].points.append(point)
    for shared, group in grouped.items():
        if len(group.entries) < min(2, len(entries)):
            names = ", ".join(entry.ref for entry in entries if not entry.runs_at(shared))
            group.stop("not_measured", f"fewer than two listings run on {shared.runtime}; {names} cannot")
    return list(grouped.values())


def _nothing(groups: list[Group]) -> str:
    reasons = "; ".join(f"on {group.points[0].runtime}: {group.reason}" for group in groups)
    return f"No latency could be measured: {reasons}. Leave that listing or the latency dimension out."
