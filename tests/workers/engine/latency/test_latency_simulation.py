"""Whole sessions on a simulated machine of known ratio: planning, stopping, voiding and verdict are the real ones."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from app.domain.latency import judge_latency
from app.domain.policies import Policy
from workers.engine.latency import analysis, block, process
from workers.engine.latency.group import Group
from workers.engine.latency.plan import plan
from workers.engine.latency.points import Entry, OperatingPoint

Floats = npt.NDArray[np.float64]

CALL_S = 0.03
START_S = 1.0
SLOTS = (0, 1, 0)


@dataclass
class Machine:
    """A noisy machine: standard deviations of log times, by where they come from.

    ``load`` is autocorrelated from call to call, ``drift`` is the step of a random walk from one block to the next,
    ``luck`` belongs to a listing's copy in one process, ``hit`` is the share of blocks in which that is ten times as
    large, and ``spikes`` the share of calls that take half as long again, on average.
    """

    ratio: float
    seed: int
    load: float = 0.03
    drift: float = 0.05
    luck: float = 0.004
    hit: float = 0.1
    spikes: float = 0.05
    level: float = 0.0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def run(self, task: block.Task) -> dict[str, Any]:
        """Stand in for ``block.run``."""
        chosen = plan(
            start_s=START_S,
            round_s=CALL_S * len(SLOTS),
            left_s=task.left_s,
            done=task.done,
            scatter=task.scatter,
            margin=task.margin,
        )
        times = self.times(chosen.rounds)
        zeros = np.zeros_like(times, dtype=int).tolist()
        point = {
            "slots": SLOTS,
            "call_ns": (times * 1e9).astype(int)[:, :, None].tolist(),
            "cpu_ns": (times * 1e9).astype(int).tolist(),
            "wait_ns": zeros,
            "switches": zeros,
            "order": zeros,
            "conditions": {"steal": [0] * chosen.rounds, "suspended_ns": [0] * chosen.rounds},
            "waits": True,
            "refused": {},
            "first_call_ms": [1.0] * len(SLOTS),
            "load_ms": [1.0] * len(SLOTS),
            "warmup_iterations": 6,
            "warmup_agreed": True,
        }
        return {"start_s": START_S, "plan": asdict(chosen), "points": [point]}

    def times(self, rounds: int) -> Floats:
        """Return seconds, ``[round, slot]``."""
        calls = rounds * len(SLOTS)
        load = self.rng.normal(0, self.load, calls)
        for call in range(1, calls):
            load[call] += 0.7 * load[call - 1]
        step = self.rng.normal(0, self.drift)
        walk = self.level + np.linspace(0, step, calls)
        self.level += step
        spikes = np.where(self.rng.random(calls) < self.spikes, self.rng.exponential(0.4, calls), 0)
        luck = self.rng.normal(0, self.luck, len(SLOTS)) * (10 if self.rng.random() < self.hit else 1)
        truth = np.array([math.log(self.ratio), 0.0, math.log(self.ratio)])
        order = np.array([np.roll(range(len(SLOTS)), turn) for turn in range(rounds)])
        by_time = (load + walk + spikes).reshape(rounds, len(SLOTS))
        slots = np.empty_like(by_time)
        np.put_along_axis(slots, order, by_time, axis=1)
        return CALL_S * np.exp(slots + luck + truth)


def session(machine: Machine, monkeypatch: pytest.MonkeyPatch, *, margin: float, budget_s: float) -> dict[str, Any]:
    """Run one session as ``measure`` does; return its judged operating point."""

    def run_forked(body: Any, _limits: process.Limits) -> process.Outcome:
        result = body(None)
        rounds = len(result["points"][0]["call_ns"])
        return process.Outcome(START_S + rounds * CALL_S * len(SLOTS), result)

    monkeypatch.setattr(process, "run_forked", run_forked)
    monkeypatch.setattr(block, "run", lambda task, _send: machine.run(task))
    entries = [Entry(ref, Path(f"{ref}.onnx"), None, (1, 3)) for ref in "ab"]
    group = Group(entries, [OperatingPoint("onnxruntime")], margin, machine.seed)
    while group.stopped is None:
        left = budget_s - group.spent_s
        if not group.affords(left):
            group.stop("budget")
            break
        group.run_block(left_s=left, budget_s=budget_s, stall_s=1.0)
        if group.stopped and group.attempt == 1 and group.void() and group.affords(budget_s - group.spent_s):
            group.rerun()
    (result,) = group.results()
    assert result is not None
    point = analysis.pair_json(result.pairs[0], ["a", "b"], margin) | {
        "device": "cpu",
        "threads": 1,
        "void": result.void(margin),
        "seconds": group.spent_s,
        "stopped": group.stopped,
    }
    judged: dict[str, Any] = judge_latency({"operating_points": [point]}, Policy("asked", latency_margin=margin))[
        "operating_points"
    ][0]
    return judged


def sessions(
    monkeypatch: pytest.MonkeyPatch, number: int, ratio: float, margin: float, budget_s: float = 60.0, **noise: float
) -> list[dict[str, Any]]:
    return [
        session(Machine(ratio, seed, **noise), monkeypatch, margin=margin, budget_s=budget_s) for seed in range(number)
    ]


def share(found: list[dict[str, Any]], *verdicts: str) -> float:
    return sum(point["verdict"] in verdicts for point in found) / len(found)


def covered(found: list[dict[str, Any]], ratio: float) -> float:
    return sum(point["ci95"][0] <= ratio <= point["ci95"][1] for point in found) / len(found)


NUMBER = 200
SLACK = 0.035
"""Two standard errors of a share of 5 % among 200 sessions are 0.031."""


@pytest.mark.parametrize(
    "noise",
    [
        {},
        {"load": 0.002, "luck": 0.001, "drift": 0.01, "spikes": 0.0},
        {"load": 0.1, "luck": 0.01, "hit": 0.2},
        {"drift": 0.3},
    ],
    ids=["noisy", "calm", "wild", "drifting"],
)
def test_a_listing_is_not_called_faster_than_itself(monkeypatch: pytest.MonkeyPatch, noise: dict[str, float]) -> None:
    found = sessions(monkeypatch, NUMBER, 1.0, 0.05, **noise)
    assert share(found, "a_faster", "b_faster") == 0
    assert covered(found, 1.0) >= 0.95 - SLACK
    if noise.get("load") != 0.1:
        assert share(found, "same") >= 0.95
        assert np.std([math.log(point["ratio"]) for point in found]) <= 0.005


def test_a_calm_machine_answers_in_a_few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = sessions(monkeypatch, 50, 1.0, 0.05, load=0.002, luck=0.001, drift=0.01, spikes=0.0)
    assert np.median([point["blocks"] for point in found]) == 4
    assert np.median([point["seconds"] for point in found]) < 10


@pytest.mark.parametrize(("ratio", "margin"), [(1.05, 0.05), (1 / 1.05, 0.05), (1.01, 0.01)])
def test_a_ratio_on_the_margin_is_seldom_decided_either_way(
    monkeypatch: pytest.MonkeyPatch, ratio: float, margin: float
) -> None:
    found = sessions(monkeypatch, NUMBER, ratio, margin)
    assert share(found, "same") <= 0.05 + SLACK
    assert share(found, "a_faster", "b_faster") <= 0.05 + SLACK
    assert covered(found, ratio) >= 0.95 - SLACK


@pytest.mark.parametrize(("ratio", "verdict"), [(1.1, "b_faster"), (1 / 1.1, "a_faster")])
def test_a_tenth_is_found_and_named_the_right_way_round(
    monkeypatch: pytest.MonkeyPatch, ratio: float, verdict: str
) -> None:
    found = sessions(monkeypatch, NUMBER, ratio, 0.05)
    assert share(found, verdict) >= 0.98
    assert covered(found, ratio) >= 0.95 - SLACK
    assert np.mean([point["seconds"] for point in found]) < 40


def test_three_per_cent_are_found_at_a_margin_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = sessions(monkeypatch, NUMBER, 1.03, 0.01, hit=0.0)
    assert share(found, "b_faster") >= 0.95


def test_a_control_that_moves_by_the_margin_voids_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    class Crooked(Machine):
        """The second copy of the listing is slower than the first, as if memory had been short."""

        def times(self, rounds: int) -> Floats:
            return super().times(rounds) * np.array([1.0, 1.0, 1.05])

    for seed in range(10):
        point = session(Crooked(1.1, seed, load=0.01, luck=0.001), monkeypatch, margin=0.05, budget_s=60.0)
        assert point["void"]
        assert point["verdict"] == "inconclusive"
