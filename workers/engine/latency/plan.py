"""How many rounds a block should hold, from what it costs to start one and how much the times scatter."""

from __future__ import annotations

import math
from dataclasses import dataclass

from workers.engine.latency.statistics import DECISION_BLOCKS, STOP_LEVEL, student_quantile

WITHIN = 0.02
BETWEEN = 0.004
"""Scatter of log-ratios between the pairs of a block, and between blocks, assumed until blocks have shown their own."""

MOST_ROUNDS = 256
_ROUNDS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, MOST_ROUNDS)
_MOST_BLOCKS = 40
_WANTED_BLOCKS = 3
ROOM = 0.6
"""Share of the margin that the interval may fill, so that an estimate somewhat off 1 is decided too."""
_MEDIAN_VARIANCE = math.pi / 2
"""Variance of a median over that of a mean, for normal errors."""


@dataclass(frozen=True)
class Scatter:
    """Standard deviations of log-ratios: of the pairs within a block, and of blocks beyond what those explain."""

    within: float = WITHIN
    between: float = BETWEEN


@dataclass(frozen=True)
class Plan:
    """Rounds in each block, blocks still to run (this one included), and the 99 % interval's half-width to expect."""

    rounds: int
    blocks: int
    half_width: float


def plan(*, start_s: float, round_s: float, left_s: float, done: int, scatter: Scatter, margin: float) -> Plan:
    """Choose rounds and blocks.

    start_s: fork, loading and warm-up of one block; round_s: one round of every operating point; left_s: what remains
    of the budget, this block's start included; done: blocks finished. Takes the cheapest plan expected to decide that
    two equal listings are the same, else the most precise one that the budget holds, else what comes nearest to three
    blocks.
    """
    # Rounds that together cost less than half of a start buy precision for next to nothing.
    cheap = min(start_s / 2 / round_s, MOST_ROUNDS / 2)
    enough = [rounds for rounds in _ROUNDS if rounds >= cheap]
    choices = enough if enough[0] * round_s + start_s <= left_s / _WANTED_BLOCKS else _ROUNDS
    fitting: list[Plan] = []
    for rounds in choices:
        variance = scatter.between**2 + _MEDIAN_VARIANCE * scatter.within**2 / rounds
        cost = start_s + rounds * round_s
        most = done + min(_MOST_BLOCKS, int(left_s / cost))
        for total in range(max(done + 1, _WANTED_BLOCKS), most + 1):
            half = student_quantile(total - 1, STOP_LEVEL) * math.sqrt(variance / total)
            fitting.append(Plan(rounds, total - done, half))
    deciding = [item for item in fitting if item.half_width <= ROOM * margin and done + item.blocks >= DECISION_BLOCKS]
    if deciding:
        return min(deciding, key=lambda item: item.blocks * (start_s + item.rounds * round_s))
    if fitting:
        return min(fitting, key=lambda item: item.half_width)
    blocks = max(1, min(_WANTED_BLOCKS - done, int(left_s / (start_s + round_s))))
    rounds = int((left_s / blocks - start_s) / round_s)
    return Plan(min(max(rounds, 1), MOST_ROUNDS), blocks, math.inf)


def share(rounds: int, round_s: list[float]) -> list[int]:
    """Split the time of ``rounds`` rounds of all operating points evenly among them; rounds for each, at least 2."""
    each = rounds * sum(round_s) / len(round_s)
    least = min(2, rounds)
    return [max(least, min(MOST_ROUNDS, round(each / one))) for one in round_s]
