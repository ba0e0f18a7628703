"""How much of a difference is the framework's: the pair's ratio on native runtimes over its ratio on a common one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtrit

from workers.engine.latency import statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from workers.engine.latency.analysis import PointBlock

    Floats = npt.NDArray[np.float64]

TRIM = 0.2
"""Share of the blocks that is cut off at either end: one block in ten is hit by something. Below five, none is."""

_LEAST = 2


def log_ratios(blocks: Sequence[PointBlock], a: int, b: int) -> Floats:
    """Each block's log-ratio of slot ``a`` over slot ``b``, in wall time."""
    return np.array([block.ratio(a, b).wall.log_ratio for block in blocks])


def compare(native: Floats, common: Floats) -> dict[str, Any]:
    """Return ``{"ratio", "ci95", "model_ratio"}``: native over common, and the common one, which is the model's own.

    native, common: log-ratios by block. The blocks of two points are two independent samples of unequal spread.
    """
    interval = difference_interval(native, common)
    return {
        "ratio": math.exp(_trimmed_mean(native) - _trimmed_mean(common)),
        "ci95": None if interval is None else [math.exp(end) for end in interval],
        "model_ratio": math.exp(_trimmed_mean(common)),
    }


def difference_interval(x: Floats, y: Floats, level: float = statistics.LEVEL) -> tuple[float, float] | None:
    """Interval for the difference of the centres of two independent samples; None with fewer than two values in one.

    Trimmed means with Winsorised variances and Welch's degrees of freedom: Yuen, "The two-sample trimmed t for unequal
    population variances", Biometrika 61 (1974) 165-170. Without values to trim it is Welch's own t.
    """
    if min(len(x), len(y)) < _LEAST:
        return None
    (variance_x, kept_x), (variance_y, kept_y) = _spread(x), _spread(y)
    variance = variance_x + variance_y
    centre = _trimmed_mean(x) - _trimmed_mean(y)
    if variance == 0:
        return centre, centre
    freedom = variance**2 / (variance_x**2 / (kept_x - 1) + variance_y**2 / (kept_y - 1))
    half = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(variance)
    return centre - half, centre + half


def _trimmed_mean(values: Floats) -> float:
    cut = int(TRIM * len(values))
    return float(np.mean(np.sort(values)[cut : len(values) - cut]))


def _spread(values: Floats) -> tuple[float, int]:
    """Return the squared standard error of a trimmed mean, and the number of values that it keeps."""
    n = len(values)
    cut = int(TRIM * n)
    kept = n - 2 * cut
    ordered = np.sort(values)
    winsorised = np.clip(ordered, ordered[cut], ordered[n - cut - 1])
    return (n - 1) * float(np.var(winsorised, ddof=1)) / (kept * (kept - 1)), kept
