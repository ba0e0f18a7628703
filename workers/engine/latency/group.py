"""A group: the operating points that share loaded models, measured together in the same blocks.

Loading is paid once for all batches and boundaries of a group. Runtimes, thread counts and all else get processes of
their own, because the thread pools of one would stay alive, and sometimes spin, beside the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any

from workers.engine.latency import analysis, block, machine, process
from workers.engine.latency.plan import Plan, Scatter

if TYPE_CHECKING:
    from workers.engine.latency.points import Entry, OperatingPoint

MOST_FAILURES = 2
"""Blocks that may fail one after the other before a group gives up."""
_GRACE_S = 5.0
_GRACE_FACTOR = 3.0


@dataclass
class Group:
    """The state of one group while its session runs.

    ``plan`` was made in the last block that ran, ``pilot`` in the first one: blocks still to run, that one included.
    ``apart`` says why each copy has a process of its own; None where all share one.
    """

    entries: list[Entry]
    points: list[OperatingPoint]
    margin: float
    seed: int
    attempt: int = 1
    spent_s: float = 0.0
    blocks: list[list[analysis.PointBlock]] = field(default_factory=list)
    voided: list[list[analysis.PointBlock]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    excluded: list[dict[str, str]] = field(default_factory=list)
    refused: dict[int, list[dict[str, str]]] = field(default_factory=dict)
    alone: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each listing showed alone, by reference (``alone.survey``)."""
    stopped: str | None = None
    reason: str | None = None
    apart: str | None = None
    plan: Plan | None = None
    pilot: Plan | None = None
    _started: int = 0
    _row: int = 0
    _cheapest_s: float = 0.0
    _longest_s: float = 0.0

    def stop(self, stopped: str, reason: str | None = None) -> None:
        """End this group."""
        self.stopped, self.reason = stopped, reason

    def results(self) -> list[analysis.PointResult | None]:
        """Analyse each point of this group over the blocks of the present attempt."""
        return [analysis.analyse([blocks[index] for blocks in self.blocks]) for index in range(len(self.points))]

    def affords(self, seconds: float) -> bool:
        """Whether another block is expected to end within ``seconds``; the first one always may."""
        return not self.blocks or seconds >= self._cheapest_s

    def run_block(self, *, left_s: float, budget_s: float, stall_s: float, memory_bytes: int | None = None) -> None:
        """Run one more block within ``left_s`` seconds, and stop this group when that settles it."""
        task = block.Task(
            entries=tuple(self.entries),
            points=tuple(self.points),
            seed=self.seed,
            number=self._started,
            left_s=left_s,
            done=tuple(min(len(item.call_ns) for item in points if item.slots) for points in self.blocks),
            scatter=self.scatter(),
            margin=self.margin,
            apart=self.apart is not None,
        )
        most_s = _GRACE_FACTOR * (max(self._longest_s, left_s) if self.blocks else budget_s + stall_s) + _GRACE_S
        limits = process.Limits(stall_s, most_s, memory_bytes)
        busy = machine.Busy()
        outcome = process.run_forked(lambda send: block.run(task, send), limits)
        self._started += 1
        self.spent_s += outcome.seconds
        if outcome.result is None:
            self._failed(outcome)
        else:
            self._finished(outcome, outcome.result, busy.beside(outcome.cpu_s))

    def _finished(self, outcome: process.Outcome, result: dict[str, Any], busy_beside: float | None) -> None:
        number = self._started - 1
        self._row = 0
        self.plan = Plan(**result["plan"])
        self.pilot = self.pilot or self.plan
        self.blocks.append(
            [
                analysis.PointBlock.from_json(
                    value, number=number, attempt=self.attempt, threads=point.threads, busy_beside=busy_beside
                )
                for value, point in zip(result["points"], self.points, strict=True)
            ]
        )
        self.refused = {
            index: [
                {"ref": self.entries[int(entry)].ref, "reason": reason} for entry, reason in value["refused"].items()
            ]
            for index, value in enumerate(result["points"])
        }
        rounds = sum(float(item.wall_ns.sum()) / 1e9 / max(1, len(item.wall_ns)) for item in self.blocks[-1])
        self._cheapest_s = result["start_s"] + rounds
        self._longest_s = max(self._longest_s, outcome.seconds)
        settled = [item.settled(self.margin) for item in self.results() if item is not None]
        if not any(item.slots for item in self.blocks[-1]):
            self.stop("failed", "no listing can run at these operating points")
        elif settled and all(settled):
            self.stop("decided" if set(settled) == {"decided"} else "precise")

    def _failed(self, outcome: process.Outcome) -> None:
        """Note a failure; go on with each copy in a process of its own, or without the listing that broke there too."""
        entry = outcome.stage.get("entry")
        doing = outcome.stage.get("doing", "starting")
        ref = None if entry is None else self.entries[entry].ref
        reason = f"{ref or 'a block'} broke while {doing}: {outcome.reason}"
        self.failures.append({"block": self._started - 1, "ref": ref, "reason": reason})
        self._row += 1
        if not self.blocks and not self.voided and self.apart is None:
            # Every listing has run alone: what breaks now may be what they do to each other.
            self.apart = reason
        elif entry is not None and ref is not None and not self.blocks and not self.voided:
            self.excluded.append({"ref": ref, "reason": reason})
            least = min(2, len(self.entries))
            del self.entries[entry]
            self._row = 0
            if len(self.entries) < least:
                self.stop("failed", reason)
        elif self._row >= MOST_FAILURES:
            self.stop("failed", f"{self._row} blocks in a row failed; the last: {reason}")

    def void(self) -> bool:
        """Whether the control of any point moved."""
        return any(item.void(self.margin) for item in self.results() if item is not None)

    def rerun(self) -> None:
        """Set the blocks so far aside and start again."""
        self.voided, self.blocks = self.blocks, []
        self.attempt += 1
        self.stopped = self.reason = None

    def forecast(self) -> str:
        """Say which block is next, and what the answer is expected to cost."""
        if self.plan is None:
            return f"block {len(self.blocks) + 1}, the pilot"
        left = max(self.plan.blocks - 1, 1)
        return (
            f"block {len(self.blocks) + 1} of about {len(self.blocks) + left}, "
            f"{left * self.plan.seconds / self.plan.blocks:.0f} s left"
        )

    def scatter(self) -> Scatter:
        """Return the scatter to plan with: the widest of any pair at any point."""
        every = [item.scatter() for item in self.results() if item is not None]
        return reduce(Scatter.widest, every) if every else Scatter()
