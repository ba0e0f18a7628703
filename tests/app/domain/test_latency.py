from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.latency import judge_latency
from app.domain.policies import POLICIES

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
    judged = judge_latency({"operating_points": [point(*values) for values in points]}, DEFAULT)
    assert judged["verdict"] == expected


SLOWER, EQUAL = (1.2, 1.1, 1.3), (1.0, 0.99, 1.01)


@pytest.mark.parametrize(
    ("times", "cost", "changed", "expected"),
    [
        (SLOWER, [1.08, 1.2], {}, "b_faster"),
        (SLOWER, [1.01, 1.04], {}, "b_faster"),  # smaller in CPU time, but there
        (SLOWER, [0.99, 1.04], {}, "inconclusive"),
        (SLOWER, [0.8, 0.9], {}, "inconclusive"),
        (SLOWER, None, {}, "b_faster"),
        (SLOWER, [0.99, 1.01], {"threads": 2}, "b_faster"),
        ((0.8, 0.7, 0.9), [0.7, 0.99], {}, "a_faster"),
        ((0.8, 0.7, 0.9), [0.7, 1.01], {}, "inconclusive"),
        (EQUAL, [0.9, 1.1], {}, "same"),
        (EQUAL, [1.06, 1.1], {}, "inconclusive"),
        ((1.0, 0.5, 1.5), [0.1, 0.2], {}, "inconclusive"),
    ],
)
def test_time_must_hold_in_cpu_time_and_on_a_gpu_in_cycles(times, cost, changed, expected):
    cpu = point(*times) | {"cpu_ci95": cost, "cycles_ci95": [0.1, 0.1]} | changed
    judged = judge_latency({"operating_points": [cpu]}, DEFAULT)["operating_points"][0]
    assert judged["verdict"] == expected
    placed = times[1:] != (0.5, 1.5)
    assert ("disagree" in judged.get("reason", "")) == (placed and expected == "inconclusive")
    if not changed:
        gpu = point(*times) | {"device": "cuda", "cycles_ci95": cost, "cpu_ci95": [0.1, 0.1]}
        assert judge_latency({"operating_points": [gpu]}, DEFAULT)["verdict"] == expected


@given(st.floats(0.01, 100), st.floats(0, 1))
def test_exchanging_a_and_b_exchanges_the_latency_verdict(ratio, width):
    low, high = ratio * (1 - width / 2) + 1e-9, ratio * (1 + width)
    one = judge_latency({"operating_points": [point(ratio, low, high)]}, DEFAULT)["verdict"]
    other = judge_latency({"operating_points": [point(1 / ratio, 1 / high, 1 / low)]}, DEFAULT)["verdict"]
    assert other == {"a_faster": "b_faster", "b_faster": "a_faster"}.get(one, one)
