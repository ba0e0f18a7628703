from __future__ import annotations

import pytest

from app.domain.latency import judge_latency
from app.domain.policies import POLICIES

DEFAULT = POLICIES["default"]
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
    place = {"runtime": "torch", "batch": 1, "threads": 1, "device": "cpu", "a": {}, "b": {}}
    timed = place | {"ratio": times[0], "ci95": list(times[1:])}
    cpu = timed | {"cpu_ci95": cost, "cycles_ci95": [0.1, 0.1]} | changed
    judged = judge_latency({"operating_points": [cpu]}, DEFAULT)["operating_points"][0]
    assert judged["verdict"] == expected
    placed = times[1:] != (0.5, 1.5)
    assert ("disagree" in (judged["undecided"] or "")) == (placed and expected == "inconclusive")
    if not changed:
        gpu = timed | {"device": "cuda", "cycles_ci95": cost, "cpu_ci95": [0.1, 0.1]}
        assert judge_latency({"operating_points": [gpu]}, DEFAULT)["verdict"] == expected
