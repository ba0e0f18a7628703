"""Every interval and p-value of a comparison, computed a second time: by statsmodels, scipy, or from the definition."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from scipy.spatial import distance
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from workers.engine.accuracy import paired, recorded

RECORDED = Path(__file__).parents[5] / "shared/data/imagenet-recorded"

with_recorded = pytest.mark.skipif(
    not RECORDED.is_dir(), reason=f"the recorded ImageNet predictions are not at {RECORDED}"
)

LEDGERS = [
    pytest.param(0, 0, 500, id="no item discordant"),
    pytest.param(0, 0, 50_000, id="no item of many discordant"),
    pytest.param(7, 0, 50, id="A alone right"),
    pytest.param(0, 7, 50, id="B alone right"),
    pytest.param(1, 0, 30, id="one item discordant"),
    pytest.param(1, 1, 50_000, id="one item each of many"),
    pytest.param(0, 20, 20, id="B right on all, A on none"),
    pytest.param(12, 8, 20, id="every item discordant"),
    pytest.param(25_000, 25_000, 50_000, id="every item of many discordant"),
    pytest.param(10, 20, 100, id="few items"),
    pytest.param(212, 144, 1600, id="hundreds of items"),
    pytest.param(2349, 3140, 50_000, id="many items"),
]


def likeliest_only_b(b: int, c: int, n: int, delta: float) -> float:
    """Maximise b log(q + delta) + c log q + (n - b - c) log(1 - delta - 2 q) over q, the probability of c."""

    def slope(q: float) -> float:
        terms = ((b, q + delta, 1.0), (c, q, 1.0), (n - b - c, 1 - delta - 2 * q, -2.0))
        return sum(count * by / share for count, share, by in terms if count)

    low, high = max(0.0, -delta), (1 - delta) / 2
    inside = math.nextafter(low, 1.0), math.nextafter(high, 0.0)
    # The slope only falls: without a sign change the likelihood is largest at an end.
    if slope(inside[0]) <= 0:
        return low
    if slope(inside[1]) >= 0:
        return high
    return float(optimize.brentq(slope, *inside, xtol=1e-17, rtol=1e-14))


def tango(b: int, c: int, n: int, level: float) -> tuple[float, float]:
    """Return the differences that the score test of Tango (1998) does not reject, by root finding.

    statsmodels has no score interval for paired proportions: confint_proportions_2indep is of independent samples.
    """
    z, estimate = stats.norm.ppf((1 + level) / 2), (b - c) / n

    def statistic(delta: float) -> float:
        only_b = likeliest_only_b(b, c, n, delta)
        return (b - c - n * delta) / math.sqrt(n * (2 * only_b + delta - delta**2))

    beside = 1e-13
    low, high = -1.0, 1.0
    if estimate > -1:
        low = optimize.brentq(lambda delta: statistic(delta) - z, -1 + beside, estimate - beside, xtol=1e-14)
    if estimate < 1:
        high = optimize.brentq(lambda delta: statistic(delta) + z, estimate + beside, 1 - beside, xtol=1e-14)
    return float(low), float(high)


@pytest.mark.parametrize(("b", "c", "n"), LEDGERS)
@pytest.mark.parametrize("level", [0.90, 0.95])
def test_tango_ends_are_where_the_score_test_just_rejects(b, c, n, level):
    assert paired.tango_interval(b, c, n, level) == pytest.approx(tango(b, c, n, level), abs=1e-9)


@pytest.mark.parametrize(("b", "c", "n"), LEDGERS)
def test_mcnemar_is_statsmodels_and_scipys(b, c, n):
    rest = n - b - c
    of_table = mcnemar([[rest // 2, b], [c, rest - rest // 2]], exact=True).pvalue
    assert paired.mcnemar_p(b, c) == pytest.approx(of_table, rel=1e-9)
    assert paired.mcnemar_p(b, c) == pytest.approx(binomial(b, c), rel=1e-9)


def binomial(b: int, c: int) -> float:
    return stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0


@given(st.integers(0, 300), st.integers(0, 300))
@settings(max_examples=100, deadline=None)
def test_mcnemar_is_the_exact_binomial_test(b, c):
    assert paired.mcnemar_p(b, c) == pytest.approx(binomial(b, c), rel=1e-9)


@given(st.integers(1, 2000), st.floats(0, 1), st.sampled_from([0.90, 0.95]))
@settings(max_examples=100, deadline=None)
def test_wilson_is_statsmodels_and_scipys(n, share, level):
    successes = round(share * n)
    found = paired.wilson_interval(successes, n, level)
    expected = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found == pytest.approx(proportion_confint(successes, n, 1 - level, method="wilson"), abs=1e-12)


class Recorded:
    """One recorded model, read by numpy alone: its columns in order of the scores."""

    def __init__(self, name: str) -> None:
        raw = np.load(RECORDED / f"{name}.npz")
        order = np.argsort(-raw["scores"], axis=1, kind="stable")
        self.labels = raw["labels"]
        self.classes = np.take_along_axis(raw["classes"], order, axis=1)
        self.confidence = raw["scores"].max(axis=1)

    def right(self, top: int) -> np.ndarray:
        return (self.classes[:, :top] == self.labels[:, None]).any(axis=1)


def expected_pairs() -> list[dict[str, Any]]:
    return json.loads((RECORDED / "expected.json").read_text()) if RECORDED.is_dir() else []


@pytest.fixture(scope="module", params=expected_pairs(), ids=lambda pair: f"{pair['a']} {pair['b']}")
def pair(request):
    """Return both sides as numpy reads them, and what the project says of them."""
    names = [request.param[side] for side in ("a", "b")]
    block = paired.compare(*(recorded.read(RECORDED / f"{name}.npz", "imagenet-val") for name in names))
    return *(Recorded(name) for name in names), block


@with_recorded
@pytest.mark.parametrize("top", [1, 5])
def test_intervals_and_p_values_of_the_recorded_pairs(pair, top):
    a, b, block = pair
    right_a, right_b, found = a.right(top), b.right(top), block[f"top{top}"]
    only_a, only_b, n = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum()), len(a.labels)
    for name, level in (("ci90", 0.90), ("ci95", 0.95)):
        assert found[name] == pytest.approx(tango(only_a, only_b, n, level), abs=1e-9)
    table = [[int((right_a & right_b).sum()), only_a], [only_b, int((~right_a & ~right_b).sum())]]
    assert found["p_value"] == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-8)
    assert found["p_value"] == pytest.approx(binomial(only_a, only_b), rel=1e-8)
    for side, right in (("a", right_a), ("b", right_b)):
        expected = proportion_confint(int(right.sum()), n, method="wilson")
        assert found[f"{side}_ci95"] == pytest.approx(expected, abs=1e-12)


@with_recorded
def test_agreement_of_the_recorded_pairs(pair):
    a, b, block = pair
    agreed = int((a.classes[:, 0] == b.classes[:, 0]).sum())
    expected = proportion_confint(agreed, len(a.labels), method="wilson")
    assert block["agreement_ci95"] == pytest.approx(expected, abs=1e-12)


@with_recorded
def test_classes_of_the_recorded_pairs(pair):
    a, b, block = pair
    p_values = []
    for label in range(1000):
        of_class = a.labels == label
        only_a, only_b = ((one.right(1) & ~other.right(1))[of_class].sum() for one, other in ((a, b), (b, a)))
        p_values.append(binomial(int(only_a), int(only_b)))
    apart, q_values, _, _ = multipletests(p_values, alpha=0.05, method="fdr_bh")
    found = block["classes"]
    assert (found["tested"], found["number"]) == (1000, int(apart.sum()))
    for item in found["found"]:
        assert item["p_value"] == pytest.approx(p_values[item["class"]], rel=1e-8)
        assert item["q_value"] == pytest.approx(q_values[item["class"]], rel=1e-8)


@with_recorded
def test_the_shift_of_confidence_of_the_recorded_pairs(pair):
    a, b, block = pair
    histograms = [np.histogram(side.confidence, bins=15, range=(0, 1))[0] for side in (a, b)]
    # scipy gives the distance, the root of the divergence.
    expected = distance.jensenshannon(*histograms, base=2) ** 2
    assert block["confidence"]["jensen_shannon"] == pytest.approx(expected, rel=1e-6)
