from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.domain import latency
from app.domain.policies import POLICIES, Dimension, InvalidPolicyError, Policy
from app.domain.verdicts import Finding, Place, Severity, items_needed, judge_accuracy, place

SMALL = st.floats(-1, 1)
DEFAULT = POLICIES["default"]


def point(ratio, low, high):
    return {
        "batch": 1,
        "runtime": "torch",
        "device": "cpu",
        "threads": 1,
        "a": {"median_ms": 1.0},
        "b": {"median_ms": 1.0},
        "ratio": ratio,
        "ci95": [low, high],
    }


@given(SMALL, SMALL, st.floats(0, 0.5))
def test_a_difference_is_in_one_place_and_its_mirror_image_in_the_same(low, high, margin):
    assume(low <= high)
    found = place((low, high), margin)
    assert found is place((-high, -low), margin)
    if found is Place.INSIDE:
        assert max(abs(low), abs(high)) <= margin
    if found is Place.OUTSIDE:
        assert low > margin or high < -margin


@pytest.mark.parametrize(
    ("interval", "inner", "expected"),
    [
        ((-0.004, 0.004), None, Place.INSIDE),
        ((-0.006, 0.004), (-0.0049, 0.003), Place.INSIDE),
        ((-0.006, 0.004), None, Place.INCONCLUSIVE),
        ((0.006, 0.02), None, Place.OUTSIDE),
        ((-0.02, -0.006), None, Place.OUTSIDE),
        ((0.005, 0.02), None, Place.INCONCLUSIVE),
    ],
)
def test_places_at_the_default_margin(interval, inner, expected):
    assert place(interval, DEFAULT.accuracy_margin, inner=inner) is expected


def test_items_needed_is_the_formula_of_the_two_one_sided_tests():
    assert items_needed(0.1, 0.005) == math.ceil(8.57 * 0.1 / 0.005**2)


def test_accuracy_says_what_would_decide():
    top1 = {"a": 0.9, "b": 0.89, "difference": 0.01, "ci95": [-0.01, 0.03], "ci90": [-0.007, 0.027], "p_value": 0.3}
    judged = judge_accuracy({"top1": top1, "top5": None, "discordant": 0.05}, DEFAULT)
    assert (judged["verdict"], judged["items_needed"]) == ("inconclusive", items_needed(0.05, 0.005))
    assert judged["top1"]["significant"] is False
    assert "significant" not in top1, "what was measured is not changed"


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1.0, 0.99, 1.01)], "same"),
        ([(2.0, 1.9, 2.1)], "b_faster"),
        ([(0.5, 0.4, 0.6)], "a_faster"),
        ([(2.0, 1.9, 2.1), (0.5, 0.4, 0.6)], "inconclusive"),
        ([(1.0, 0.5, 1.5)], "inconclusive"),
        ([], "inconclusive"),
    ],
)
def test_latency(points, expected):
    judged = latency.judge_latency({"operating_points": [point(*values) for values in points]}, DEFAULT)
    assert judged["verdict"] == expected


@given(st.floats(0.01, 100), st.floats(0, 1))
def test_exchanging_a_and_b_exchanges_the_latency_verdict(ratio, width):
    low, high = ratio * (1 - width / 2) + 1e-9, ratio * (1 + width)
    one = latency.judge_latency({"operating_points": [point(ratio, low, high)]}, DEFAULT)["verdict"]
    other = latency.judge_latency({"operating_points": [point(1 / ratio, 1 / high, 1 / low)]}, DEFAULT)["verdict"]
    assert other == {"a_faster": "b_faster", "b_faster": "a_faster"}.get(one, one)


@given(st.floats(0.01, 100))
def test_a_ratio_ranks_the_same_in_both_directions(ratio):
    def magnitude(effect):
        found = Finding(Dimension.LATENCY, "m", 1, 1, effect, None, 0.05, Place.OUTSIDE, Severity.CRITICAL)
        return found.magnitude

    assert magnitude(ratio - 1) == pytest.approx(magnitude(1 / ratio - 1), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_policy_is_read_back(policy):
    assert Policy.from_json(policy.to_json()) == policy


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "name"),
        ({"name": "p", "accuracy": 1}, "no field accuracy"),
        ({"name": "p", "accuracy_margin": "1"}, "a margin is a number"),
        ({"name": "p", "accuracy_margin": 1}, "a fraction"),
        ({"name": "p", "latency_margin": math.nan}, "a fraction"),
        ({"name": "p", "critical": ["speed"]}, "choose from"),
    ],
)
def test_a_wrong_policy_is_named(value, words):
    with pytest.raises(InvalidPolicyError, match=words):
        Policy.from_json(value)
