"""Statistics of paired latency: pure functions of arrays.

Inside a block, iterations of two listings that ran in the same round are paired, and the block's value is the median
of their log-ratios: drift and other people's load cancel within a round. Over blocks, each a fresh process, the
estimate is the Hodges-Lehmann one, with an interval that needs no normal distribution once there are six blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import bdtr, stdtrit

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

LEVEL = 0.95
STOP_LEVEL = 0.99
"""Level of the interval that may end a session early. Looking after every block at 95 % would cost coverage."""
RANK_BLOCKS = 6
"""Fewest blocks whose exact signed-rank interval reaches 95 %: with 5 the widest one has 93.75 %."""
INTERVAL_BLOCKS = 2
"""Fewest blocks with any interval (Student's t)."""
DECISION_BLOCKS = 4
"""Fewest blocks on which a session may stop early: with fewer, chance agreement costs coverage."""
CLEAN_PAIRS = 5
CLEAN_SHARE = 0.25
"""A block uses its undisturbed pairs alone when it has this many of them, and this share of all its pairs."""

_MAD_TO_SD = 1.4826
_LEAST_PAIRS = 4
"""Fewest pairs whose order says anything."""


SHARP_SHARE = 1 / 5
"""A ratio is sharp when its interval reaches no further than this share of the margin, or of the ratio itself."""


@dataclass(frozen=True)
class BlockRatio:
    """One block's log-ratio of two listings, and the pairs behind it.

    ``quick`` is the standard deviation of single pairs, from one pair to the next, so that slow changes do not count;
    ``halves`` is the difference of the medians of the block's two halves, 0 below four pairs.
    """

    log_ratio: float
    quick: float
    halves: float
    pairs: int


@dataclass(frozen=True)
class Estimate:
    """A ratio over blocks with its intervals, None below two blocks; ``sd`` is that of the blocks' log-ratios."""

    ratio: float
    ci95: tuple[float, float] | None
    ci99: tuple[float, float] | None
    blocks: int
    sd: float

    def half_width(self) -> float:
        """Half of the interval's width on the log scale; infinite without an interval."""
        return math.inf if self.ci95 is None else (math.log(self.ci95[1]) - math.log(self.ci95[0])) / 2


def block_ratio(a: Floats, b: Floats) -> BlockRatio:
    """Median of ``log(a / b)`` over rounds; a, b: positive times by round, any unit.

    Raises ValueError for empty or unequal arrays.
    """
    if len(a) == 0 or len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} times cannot be paired")
    logs = np.log(a / b)
    median = float(np.median(logs))
    if len(logs) < _LEAST_PAIRS:
        return BlockRatio(median, _MAD_TO_SD * float(np.median(np.abs(logs - median))), 0.0, len(logs))
    steps = np.abs(np.diff(logs))
    half = len(logs) // 2
    return BlockRatio(
        log_ratio=median,
        quick=_MAD_TO_SD * float(np.median(steps)) / math.sqrt(2),
        halves=float(np.median(logs[:half]) - np.median(logs[half:])),
        pairs=len(logs),
    )


def enough_clean(disturbed: Bools) -> bool:
    """Whether the undisturbed iterations (or rounds) are enough to stand for all: some, and no chance few."""
    clean = int(np.count_nonzero(~disturbed))
    return clean == len(disturbed) or (clean >= CLEAN_PAIRS and clean >= CLEAN_SHARE * len(disturbed))


def _walsh(values: Floats) -> Floats:
    """Sorted means of all pairs of values, each with itself too."""
    first, second = np.triu_indices(len(values))
    return np.sort((values[first] + values[second]) / 2)


def hodges_lehmann(values: Floats) -> float:
    """Median of all pairwise means: as robust as needed, nearly as efficient as the mean.

    Source: Hodges and Lehmann, Annals of Mathematical Statistics 34 (1963) 598-611.
    """
    return float(np.median(_walsh(values)))


@cache
def _signed_rank_cut(n: int, level: float) -> int:
    """Largest c with P(W < c) <= (1 - level) / 2 for Wilcoxon's W of n values; 0 when there is none."""
    counts = np.ones(1)
    for rank in range(1, n + 1):
        longer = np.zeros(len(counts) + rank)
        longer[: len(counts)] += counts
        longer[rank:] += counts
        counts = longer
    cumulative = np.cumsum(counts) / counts.sum()
    return int(np.searchsorted(cumulative, (1 - level) / 2, side="right"))


def location_interval(values: Floats, level: float = LEVEL) -> tuple[float, float] | None:
    """Interval for the centre of ``values``, one for each block; None below two blocks.

    From six blocks on, the exact signed-rank interval of Walsh averages (Hollander, Wolfe and Chicken, Nonparametric
    Statistical Methods, 3rd ed., section 3.3), valid for every symmetric distribution. With fewer, Student's t: one
    block hit by something makes it wide, not wrong.
    """
    n = len(values)
    if n < INTERVAL_BLOCKS:
        return None
    cut = _signed_rank_cut(n, level) if n >= RANK_BLOCKS else 0
    if cut:
        walsh = _walsh(values)
        return float(walsh[cut - 1]), float(walsh[len(walsh) - cut])
    half = student_quantile(n - 1, level) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return float(np.mean(values)) - half, float(np.mean(values)) + half


@cache
def student_quantile(freedom: int, level: float = LEVEL) -> float:
    """Two-sided quantile of Student's t."""
    return float(stdtrit(freedom, (1 + level) / 2))


def estimate(log_ratios: Floats) -> Estimate:
    """Ratio over blocks from each block's log-ratio. Below six blocks the centre is the interval's own, the mean."""
    n = len(log_ratios)
    centre = hodges_lehmann(log_ratios) if n >= RANK_BLOCKS else float(np.mean(log_ratios))
    ci95, ci99 = (_exp(location_interval(log_ratios, level)) for level in (LEVEL, STOP_LEVEL))
    sd = float(np.std(log_ratios, ddof=1)) if n > 1 else math.nan
    return Estimate(math.exp(centre), ci95, ci99, n, sd)


def _exp(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))


def outside_or_inside(interval: tuple[float, float] | None, margin: float) -> bool:
    """Whether an interval of a ratio lies wholly inside ``1 / (1 + margin) .. 1 + margin``, or wholly outside."""
    if interval is None:
        return False
    low, high, bound = math.log(interval[0]), math.log(interval[1]), math.log1p(margin)
    return (-bound < low and high < bound) or low > bound or high < -bound


def decided(value: Estimate, margin: float) -> bool:
    """Whether a session may stop: the 99 % interval answers against the margin, and the 95 % interval is sharp."""
    return value.blocks >= DECISION_BLOCKS and outside_or_inside(value.ci99, margin) and sharp(value, margin)


def sharp(value: Estimate, margin: float) -> bool:
    """Whether the interval is narrow enough to be worth reporting, next to the margin or to a ratio far beyond it."""
    return value.half_width() < SHARP_SHARE * max(math.log1p(margin), abs(math.log(value.ratio)))


def precise(value: Estimate, margin: float) -> bool:
    """Whether the ratio sits on the margin, and the interval is under a third of it: more blocks seldom decide."""
    near = not outside_or_inside(value.ci95, margin)
    return near and value.blocks >= RANK_BLOCKS and value.half_width() < margin / 3


def moved(control: Estimate, margin: float) -> bool:
    """Whether the control's interval excludes 1 by more than a third of the margin, which voids a session."""
    if control.ci95 is None:
        return False
    third = math.log1p(margin / 3)
    return math.log(control.ci95[0]) > third or math.log(control.ci95[1]) < -third


def blocks_needed(value: Estimate, margin: float) -> int | None:
    """Blocks after which the interval should decide, or be precise if the ratio sits on the margin; None if unknown."""
    if not math.isfinite(value.sd):
        return None
    centre = abs(math.log(value.ratio))
    target = max(abs(math.log1p(margin) - centre), margin / 3)
    for n in range(max(DECISION_BLOCKS, value.blocks + 1), 10_000):
        if student_quantile(n - 1) * value.sd / math.sqrt(n) < target:
            return n
    return None


def percentile_bound(samples: Floats, share: float, confidence: float = 0.99) -> float | None:
    """Upper bound of a percentile at ``confidence``: an order statistic; None when there are too few samples.

    Source: Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2. Needs the samples of
    ``PERCENTILE_SAMPLES``, so that the bound is not the maximum of a sample barely long enough.
    """
    n = len(samples)
    if n < PERCENTILE_SAMPLES.get(share, math.inf):
        return None
    below = bdtr(np.arange(n, dtype=np.float64), n, share)  # P(at most so many samples lie below the percentile)
    rank = int(np.searchsorted(below, confidence))
    return float(np.sort(samples)[min(rank, n - 1)])


PERCENTILE_SAMPLES = {0.9: 64, 0.95: 130, 0.99: 662, 0.999: 6_636}
"""Fewest samples that support a percentile's upper bound at 99 % confidence: its second largest is above it."""
