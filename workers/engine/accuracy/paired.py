"""Paired statistics: two models that answered the same items. Pure functions of counts and arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from workers.engine.accuracy import classes, confidence, confusions
from workers.engine.accuracy.predictions import LABELS_ONLY, TOP
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.engine.accuracy.predictions import Predictions

POWER_FACTOR = 8.57
"""(z_0.95 + z_0.90)^2: two one-sided tests at 5 % each, 80 % power when the true difference is zero."""

_BISECTIONS = 60
"""Halvings of an interval at most 2 wide: its end is then exact to the last bits of a float."""


def ledger(
    labels: NDArray[np.integer[Any]], top1_a: NDArray[np.integer[Any]], top1_b: NDArray[np.integer[Any]]
) -> dict[str, int]:
    """Count the items by who is right; the five counts add up to n.

    Args:
        labels: (n) right classes.
        top1_a: (n) best classes of A.
        top1_b: (n) best classes of B.
    """
    right_a, right_b, same = top1_a == labels, top1_b == labels, top1_a == top1_b
    wrong = ~right_a & ~right_b
    return {
        "both_right": int(np.count_nonzero(right_a & right_b)),
        "a_only": int(np.count_nonzero(right_a & ~right_b)),
        "b_only": int(np.count_nonzero(right_b & ~right_a)),
        "both_wrong_same": int(np.count_nonzero(wrong & same)),
        "both_wrong_different": int(np.count_nonzero(wrong & ~same)),
    }


def mcnemar_p(b: int, c: int) -> float:
    """Two-sided exact p-value that A and B are right equally often.

    b, c: items that only A, only B got right. Binomial(b + c, 1/2); 1 when no item is discordant.
    Source: McNemar, Psychometrika 12 (1947); the exact conditional form.
    """
    _check_counts(b, c, max(1, b + c))
    if b == c:
        return 1.0
    return float(min(1.0, 2 * special.bdtr(min(b, c), b + c, 0.5)))


def tango_interval(b: int, c: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval for the difference of two paired proportions, (b - c) / n.

    b, c: items that only A, only B got right; n: all items. Fractions, not per cent.
    Source: Tango, Statistics in Medicine 17 (1998), the score statistic with the constrained estimate of the
    probability of c. Raises ValueError when the counts do not fit together.
    """
    _check_counts(b, c, n)
    z = _quantile(level)
    low = _tango_end(b, c, n, z)
    # Exchanging the two models mirrors the interval.
    return (low, -_tango_end(c, b, n, z))


def _tango_end(b: int, c: int, n: int, z: float) -> float:
    """Return the smallest difference that the score test does not reject, by bisection on [-1, (b - c) / n]."""
    rejected, accepted = -1.0, (b - c) / n
    for _ in range(_BISECTIONS):
        middle = (rejected + accepted) / 2
        if b - c - n * middle > z * math.sqrt(_tango_variance(b, c, n, middle)):
            rejected = middle
        else:
            accepted = middle
    return accepted


def _tango_variance(b: int, c: int, n: int, delta: float) -> float:
    """Variance of b - c when the true difference is ``delta``, with the constrained estimate of P(only B right)."""
    linear = (2 * n - b + c) * delta - b - c
    constant = -c * delta * (1 - delta)
    # Rounding may leave either a hair below zero where it is zero.
    root = math.sqrt(max(0.0, linear * linear - 8 * n * constant))
    only_b = (root - linear) / (4 * n)
    return max(0.0, n * (2 * only_b + delta * (1 - delta)))


def wilson_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval for one proportion, ``successes / n``. Fractions.

    Source: Wilson, Journal of the American Statistical Association 22 (1927).
    """
    _check_counts(successes, 0, n)
    z = _quantile(level)
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    # The ends are exactly 0 and 1 there; floating point only comes close.
    return (
        0.0 if successes == 0 else centre - half,
        1.0 if successes == n else centre + half,
    )


def items_needed(discordant: float, margin: float) -> int:
    """Items that decide equivalence within ±margin with 80 % power.

    discordant: fraction of items that exactly one model gets right. Raises ValueError unless margin > 0.
    """
    if margin <= 0:
        raise ValueError(f"margin is {margin}; equivalence needs one above 0")
    return math.ceil(POWER_FACTOR * discordant / margin**2)


def compare(a: Predictions, b: Predictions) -> dict[str, Any]:
    """Return the measured accuracy block of a comparison; differences are a - b, fractions.

    ``top5`` is None when either side ranks fewer than five classes; ``classes``, ``confidence`` and ``suspicions``
    are those of ``classes.told_apart``, ``confidence.compare`` and ``confusions.suspicions``; ``self_noise`` is that
    of each live run (``Inference.self_noise``), None for imported predictions.

    Raises:
        UsageError: when the two did not answer the same items.
    """
    _check_same_items(a, b)
    n = len(a)
    counts = ledger(a.labels, a.top1, b.top1)
    agreed = counts["both_right"] + counts["both_wrong_same"]
    return {
        "items": n,
        "items_digest": a.items_digest,
        "top1": _metric(a.right(1), b.right(1)),
        "top5": _metric(a.right(TOP), b.right(TOP)) if min(a.k, b.k) >= TOP else None,
        "agreement": agreed / n,
        "agreement_ci95": list(wilson_interval(agreed, n)),
        "ledger": counts,
        "discordant": (counts["a_only"] + counts["b_only"]) / n,
        "classes": classes.told_apart(a.labels, a.right(1), b.right(1)),
        "confidence": confidence.compare(a, b),
        "suspicions": confusions.suspicions(a.labels, a.top1, b.top1),
        "self_noise": {"a": a.provenance.get("self_noise"), "b": b.provenance.get("self_noise")},
    }


def difference(b: int, c: int, n: int) -> dict[str, Any]:
    """Return what a verdict is made of: the difference (b - c) / n, its intervals ``ci90`` and ``ci95``, ``p_value``.

    b, c: items that only A, only B got right; n: all items. Raises ValueError when they do not fit together.
    """
    return {
        "difference": (b - c) / n,
        "ci90": list(tango_interval(b, c, n, 0.90)),
        "ci95": list(tango_interval(b, c, n, 0.95)),
        "p_value": mcnemar_p(b, c),
    }


def _metric(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> dict[str, Any]:
    n = right_a.size
    a_only = int(np.count_nonzero(right_a & ~right_b))
    b_only = int(np.count_nonzero(right_b & ~right_a))
    hits_a, hits_b = int(np.count_nonzero(right_a)), int(np.count_nonzero(right_b))
    return {
        "a": hits_a / n,
        "b": hits_b / n,
        "a_ci95": list(wilson_interval(hits_a, n)),
        "b_ci95": list(wilson_interval(hits_b, n)),
        **difference(a_only, b_only, n),
    }


def _check_same_items(a: Predictions, b: Predictions) -> None:
    if len(a) == 0 or len(b) == 0:
        raise UsageError("no-items", "The predictions hold no items, so there is nothing to compare; measure again.")
    advice = "predict with both models on the same dataset, then compare."
    if len(a) != len(b):
        raise UsageError("items-differ", f"A answered {len(a)} items and B {len(b)}: {advice}")
    differ = a.labels != b.labels
    if differ.any():
        row = int(np.argmax(differ))
        raise UsageError(
            "items-differ", f"Item {row} is labelled {a.labels[row]} for A and {b.labels[row]} for B: {advice}"
        )
    by_labels = any(side.items_digest.startswith(LABELS_ONLY) for side in (a, b))
    if a.items_digest != b.items_digest and not by_labels:
        raise UsageError(
            "items-differ", f"A answered the items {a.items_digest} and B the items {b.items_digest}: {advice}"
        )


def _check_counts(b: int, c: int, n: int) -> None:
    if n < 1 or b < 0 or c < 0 or b + c > n:
        raise ValueError(f"counts {b} and {c} do not fit into {n} items")


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it lies between 0 and 1")
    return float(special.ndtri((1 + level) / 2))
