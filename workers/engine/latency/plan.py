"""How many rounds a block should hold, from what it costs to start one and how much the times scatter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.engine.latency.statistics import DECISION_BLOCKS, SHARP_SHARE, student_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_ROUNDS = 1024
_ROUNDS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, MOST_ROUNDS)
_MOST_BLOCKS = 40
_WANTED_BLOCKS = 3
_ROOM = 0.8
"""Share of the interval that makes a ratio sharp which a plan aims at: half of all plans that aim at it would miss."""
ASSUMED_BLOCKS = 4
"""Blocks that show less scatter than is assumed have to be more than these to be believed: of three, often none shows.
"""
_MEDIAN_VARIANCE = math.pi / 2
"""Variance of a median over that of a mean, for normal errors."""


@dataclass(frozen=True)
class Scatter:
    """Standard deviations of log-ratios, by where they come from.

    ``iterations``: from one pair of calls to the next, which more rounds average out; ``time``: slow changes within a
    block, and ``processes``: one fresh process against the next, which only more blocks do. The defaults are assumed
    until blocks have shown their own, and weigh as much as ``ASSUMED_BLOCKS`` blocks afterwards.
    """

    iterations: float = 0.02
    time: float = 0.002
    processes: float = 0.004

    def variance(self, rounds: int) -> float:
        """Return the variance of a block's log-ratio over so many rounds."""
        return self.processes**2 + self.time**2 + _MEDIAN_VARIANCE * self.iterations**2 / rounds

    def widest(self, other: Scatter) -> Scatter:
        """Return the larger of both, part by part."""
        return Scatter(
            max(self.iterations, other.iterations), max(self.time, other.time), max(self.processes, other.processes)
        )


@dataclass(frozen=True)
class Plan:
    """Rounds in each block, blocks still to run (this one included), and what to expect of them.

    ``seconds`` is the wall time of those blocks, ``half_width`` half of the 95 % interval's width on the log scale.
    """

    rounds: int
    blocks: int
    seconds: float
    half_width: float


def plan(
    *, start_s: float, round_s: float, left_s: float, done: Sequence[int], scatter: Scatter, margin: float
) -> Plan:
    """Choose rounds and blocks.

    start_s: fork, loading and warm-up of one block; round_s: one round of every operating point; left_s: what remains
    of the budget, this block's start included; done: rounds of every finished block. Takes the cheapest plan expected
    to give a sharp ratio of two equal listings, else the most precise one that the budget holds, else what comes
    nearest to three blocks.
    """
    # Rounds that together cost less than half of a start buy precision for next to nothing.
    cheap = min(start_s / 2 / round_s, MOST_ROUNDS / 2)
    enough = [rounds for rounds in _ROUNDS if rounds >= cheap]
    choices = enough if enough[0] * round_s + start_s <= left_s / _WANTED_BLOCKS else _ROUNDS
    known = sum(scatter.variance(rounds) for rounds in done)
    fitting: list[Plan] = []
    for rounds in choices:
        cost = start_s + rounds * round_s
        each = scatter.variance(rounds)
        for blocks in range(max(1, _WANTED_BLOCKS - len(done)), min(_MOST_BLOCKS, int(left_s / cost)) + 1):
            total = len(done) + blocks
            # Every block weighs the same, however many rounds it has.
            half = student_quantile(total - 1) * math.sqrt(known + blocks * each) / total
            fitting.append(Plan(rounds, blocks, blocks * cost, half))
    wanted = _ROOM * SHARP_SHARE * math.log1p(margin)
    sharp = [item for item in fitting if item.half_width <= wanted and len(done) + item.blocks >= DECISION_BLOCKS]
    if sharp:
        return min(sharp, key=lambda item: item.seconds)
    if fitting:
        return min(fitting, key=lambda item: item.half_width)
    blocks = max(1, min(_WANTED_BLOCKS - len(done), int(left_s / (start_s + round_s))))
    rounds = min(max(int((left_s / blocks - start_s) / round_s), 1), MOST_ROUNDS)
    return Plan(rounds, blocks, blocks * (start_s + rounds * round_s), math.inf)


def share(rounds: int, round_s: list[float]) -> list[int]:
    """Split the time of ``rounds`` rounds of all operating points evenly among them; rounds for each, at least 2."""
    each = rounds * sum(round_s) / len(round_s)
    least = min(2, rounds)
    return [max(least, min(MOST_ROUNDS, round(each / one))) for one in round_s]
