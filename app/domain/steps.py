"""Steps in a history of measurements: a change of level that came back in other runs. Pure.

A run is suspected when it leaves the level of the runs before it by more than their own scatter explains: the Hampel
identifier (Davies and Gather, Journal of the American Statistical Association 88 (1993) 782-792), which measures the
distance from the median in median absolute deviations, on the log scale because times vary in proportion. A suspicion
alone changes nothing. It becomes a step when ``RECURS`` runs of the last ``RECENT`` leave the level on the same side
and agree with each other, which outliers do not: of two, chance outliers agree too often. And ``LASTS`` runs in a row
well on one side of the level before them are a step, where the scatter hides each of them.

Simulated (``benchmarks/latency_history.py``): a history of 50 runs without a step is said to have one in less than 5 of
100 cases, with a scatter of up to 4 %, an autocorrelation of up to 0.6 and every tenth run an outlier; heavy tails
together with that scatter and autocorrelation bring up to 8. A step of 10 % is found by its fourth run: nearly always
at a scatter of 1 %, in seven of ten cases at 2 %.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BASELINE = 8
"""Runs that have to be there before any is suspected."""
RECURS = 3
RECENT = 4
LASTS = 6
"""Runs in a row that prove a smaller change too, one that the scatter hides in each of them."""
_LASTING = 0.75
"""Share of a lone run's threshold that each of these has to pass."""
_SCATTERS = 3.0
_WINDOW = 30
_SMALL_SAMPLE = 6.0
"""The scatter of n runs is enlarged by 1 + 6 / n: of few, and of autocorrelated ones, it comes out too small."""
_AGREE = 0.7
"""Share of the threshold by which the runs of one step may lie from their median."""
_MAD_TO_SD = 1.4826


@dataclass(frozen=True)
class Step:
    """A confirmed change: ``start`` is its first run, ``confirmed`` the one that settled it; levels as the values.

    ``scatter`` is the standard deviation from run to run that it is judged by, a fraction.
    """

    start: int
    confirmed: int
    before: float
    after: float
    scatter: float

    @property
    def ratio(self) -> float:
        """Level after over level before."""
        return self.after / self.before


@dataclass(frozen=True)
class History:
    """What the runs of a history are: steps, and runs that left the level alone, with that level."""

    steps: list[Step]
    unconfirmed: dict[int, float]


@dataclass
class _Level:
    """The runs since the last step by their place, as logarithms, and the deviations kept from before it."""

    runs: dict[int, float]
    earlier: list[float] = field(default_factory=list)

    def _latest(self) -> list[float]:
        return list(self.runs.values())[-_WINDOW:]

    def middle(self) -> float:
        return statistics.median(self._latest())

    def deviations(self) -> list[float]:
        middle = self.middle()
        return [*self.earlier, *(abs(run - middle) for run in self._latest())][-_WINDOW:]

    def scatter(self) -> float:
        deviations = self.deviations()
        return _MAD_TO_SD * statistics.median(deviations) * (1 + _SMALL_SAMPLE / len(deviations))

    def threshold(self, margin: float, share: float = 1.0) -> float:
        """How far a run may lie from the middle; never less than the margin, below which nothing matters."""
        return max(math.log1p(margin), share * _SCATTERS * self.scatter() * math.sqrt(1 + 1 / len(self.runs)))


def find(values: Sequence[float], *, margin: float) -> History:
    """Find the steps in ``values``, one positive number for each independent run, oldest first.

    ``margin`` is the fraction below which a change does not matter.
    """
    steps: list[Step] = []
    suspects: list[int] = []
    left: dict[int, float] = {}
    level = _Level({})
    logs = [math.log(value) for value in values]
    for at, run in enumerate(logs):
        if not steps and len(level.runs) < BASELINE:
            level.runs[at] = run
            continue
        middle, threshold = level.middle(), level.threshold(margin)
        new: list[int] = []
        if abs(run - middle) > threshold:
            left[at] = math.exp(middle)
            suspects = [*(each for each in suspects if at - each < RECENT), at]
            alike = _alike([each for each in suspects if (logs[each] > middle) == (run > middle)], logs, threshold)
            new = alike if len(alike) >= RECURS else []
        else:
            level.runs[at] = run
        before = _Level({each: value for each, value in level.runs.items() if each <= at - LASTS}, level.earlier)
        if not new and len(before.runs) >= BASELINE and _lasts(logs[at - LASTS + 1 : at + 1], before, margin):
            new, level = list(range(at - LASTS + 1, at + 1)), before
        if new:
            after = statistics.median(logs[each] for each in new)
            steps.append(Step(new[0], at, math.exp(level.middle()), math.exp(after), level.scatter()))
            level = _Level({each: logs[each] for each in new}, level.deviations())
            left = {each: value for each, value in left.items() if each not in new}
            suspects = []
    return History(steps, left)


def _lasts(recent: Sequence[float], before: _Level, margin: float) -> bool:
    """Whether all of these runs in a row lie well on one side of the level before them."""
    middle, threshold = before.middle(), before.threshold(margin, _LASTING)
    return min(recent) > middle + threshold or max(recent) < middle - threshold


def _alike(suspects: Sequence[int], logs: Sequence[float], threshold: float) -> list[int]:
    """Return the suspects that lie near their common median."""
    middle = statistics.median(logs[each] for each in suspects)
    return [each for each in suspects if abs(logs[each] - middle) <= _AGREE * threshold]
