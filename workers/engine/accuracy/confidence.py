"""How sure two models are of their best answers, and how right they are to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.engine.accuracy.predictions import Predictions

BINS = 15
"""Bins of confidence, of equal width, as in the source of the calibration error."""

_ROUNDING = 1e-3


def compare(a: Predictions, b: Predictions) -> dict[str, Any] | None:
    """Compare the confidences of two models; None when the scores of either are no probabilities.

    ``jensen_shannon`` is the divergence of the two histograms of confidence over ``BINS`` bins, in bits: 0 alike, 1
    nothing in common (Lin, IEEE Transactions on Information Theory 37, 1991). For each side the ``mean`` confidence and
    the expected ``calibration_error``.
    """
    if not (_are_probabilities(a.scores) and _are_probabilities(b.scores)):
        return None
    sides = {
        name: {
            "mean": float(side.scores[:, 0].mean()),
            "calibration_error": calibration_error(side.scores[:, 0], side.right(1)),
        }
        for name, side in (("a", a), ("b", b))
    }
    return {**sides, "jensen_shannon": _divergence(_histogram(a.scores[:, 0]), _histogram(b.scores[:, 0]))}


def calibration_error(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> float:
    """Expected calibration error: the mean distance of accuracy from confidence, over bins, by their items.

    confidence, right: (n) the probability of each best answer, and whether it is right. Source: Guo et al., On
    Calibration of Modern Neural Networks, ICML 2017.
    """
    place = _bin_of(confidence)
    sums = np.bincount(place, weights=confidence.astype(np.float64), minlength=BINS)
    hits = np.bincount(place, weights=right.astype(np.float64), minlength=BINS)
    return float(np.abs(sums - hits).sum() / len(right))


def _are_probabilities(scores: NDArray[np.floating[Any]]) -> bool:
    total = scores.sum(axis=1, dtype=np.float64)
    return bool(scores.min() >= 0 and total.max() <= 1 + _ROUNDING)


def _bin_of(confidence: NDArray[np.floating[Any]]) -> NDArray[np.intp]:
    return np.clip((confidence.astype(np.float64) * BINS).astype(np.intp), 0, BINS - 1)


def _histogram(confidence: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return np.bincount(_bin_of(confidence), minlength=BINS) / len(confidence)


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    middle = (p + q) / 2
    return float((_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2)


def _relative_entropy(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    kept = p > 0
    return float((p[kept] * np.log2(p[kept] / q[kept])).sum())
