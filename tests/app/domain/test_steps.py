# ruff: noqa: S311 - simulations want a seed, not secrecy

from __future__ import annotations

import math
import random

import pytest

from app.domain.steps import BASELINE, find

MARGIN = 0.05


def history(rng, *, runs=50, scatter=0.01, correlation=0.0, outliers=0.0, heavy=False):
    """Simulate run medians around 20 ms: autocorrelated noise, and now and then a run that something slowed down."""
    noise = rng.gauss(0, scatter)
    values = []
    for _ in range(runs):
        shock = rng.gauss(0, 1)
        if heavy:  # Student's t with 3 degrees of freedom, scaled to the same variance
            shock /= math.sqrt(rng.gammavariate(1.5, 1 / 1.5) * 3)
        noise = correlation * noise + math.sqrt(1 - correlation**2) * scatter * shock
        hit = rng.uniform(0.1, 0.6) if rng.random() < outliers else 0.0
        values.append(20 * math.exp(noise + hit))
    return values


def stepped(rng, ratio, *, at=25, **noise):
    return [value * (ratio if index >= at else 1.0) for index, value in enumerate(history(rng, **noise))]


@pytest.mark.parametrize("scatter", [0.002, 0.01, 0.02, 0.04])
@pytest.mark.parametrize(("correlation", "outliers"), [(0.0, 0.0), (0.0, 0.1), (0.3, 0.05), (0.6, 0.0), (0.6, 0.1)])
def test_a_history_without_a_step_has_none(scatter, correlation, outliers):
    rng = random.Random(7)
    trials = 200
    false = sum(
        bool(find(history(rng, scatter=scatter, correlation=correlation, outliers=outliers), margin=MARGIN).steps)
        for _ in range(trials)
    )
    # As many as chance may give of 200 where 5 in 100 are the rule (99 % of the binomial distribution).
    assert false <= 18


def test_heavy_tails_alone_make_no_step():
    rng = random.Random(8)
    trials = 150
    found = [find(history(rng, scatter=0.02, correlation=0.3, heavy=True), margin=MARGIN) for _ in range(trials)]
    assert sum(bool(each.steps) for each in found) / trials <= 0.05


@pytest.mark.parametrize(
    ("noise", "least"),
    [
        ({"scatter": 0.005}, 0.99),
        ({"scatter": 0.01, "correlation": 0.3}, 0.97),
        ({"scatter": 0.01, "correlation": 0.6, "outliers": 0.05}, 0.93),
        ({"scatter": 0.02}, 0.6),
    ],
)
@pytest.mark.parametrize("ratio", [1.1, 1 / 1.1])
def test_a_step_of_a_tenth_is_found_within_two_runs_of_recurring(noise, least, ratio):
    rng = random.Random(9)
    trials, begins = 150, 25
    found = 0
    for _ in range(trials):
        steps = find(stepped(rng, ratio, at=begins, **noise), margin=MARGIN).steps
        # It recurs with its second run.
        found += any(abs(step.start - begins) <= 1 and step.confirmed <= begins + 1 + 2 for step in steps)
    assert found / trials >= least


def test_its_size_is_that_of_the_levels():
    rng = random.Random(10)
    (step,) = find(stepped(rng, 1.25, scatter=0.005), margin=MARGIN).steps
    assert step.start == 25
    assert step.before == pytest.approx(20, rel=0.01)
    assert step.ratio == pytest.approx(1.25, rel=0.02)
    assert 0.002 < step.scatter < 0.012


def test_a_lone_outlier_is_unconfirmed_and_changes_nothing():
    values = [20.0] * 12 + [31.0] + [20.0] * 8
    found = find(values, margin=MARGIN)
    assert found.steps == []
    assert found.unconfirmed == {12: pytest.approx(20.0)}


def test_two_runs_are_not_enough_and_the_third_confirms():
    values = [20.0] * 12 + [22.5, 22.5]
    assert find(values, margin=MARGIN).steps == []
    assert set(find(values, margin=MARGIN).unconfirmed) == {12, 13}
    found = find([*values, 22.5], margin=MARGIN)
    assert [(step.start, step.confirmed) for step in found.steps] == [(12, 14)]
    assert found.unconfirmed == {}


def test_one_good_run_among_the_bad_does_not_hide_a_step():
    found = find([20.0] * 12 + [22.5, 20.0, 22.4, 22.6], margin=MARGIN)
    assert [(step.start, step.confirmed) for step in found.steps] == [(12, 15)]


def test_six_in_a_row_prove_what_the_scatter_hides_in_each():
    noisy = [20.0, 20.6, 19.4, 20.8, 19.3, 20.2, 20.5, 19.6, 19.5, 20.7]
    shifted = [value * 1.19 for value in (20.2, 20.0, 20.3, 19.9, 20.1, 20.2)]
    assert find([*noisy, *shifted[:5]], margin=MARGIN).steps == []
    (step,) = find([*noisy, *shifted], margin=MARGIN).steps
    assert (step.start, step.confirmed) == (10, 15)
    assert step.ratio == pytest.approx(1.19, abs=0.02)


def test_there_and_back_are_two_steps():
    values = [20.0] * 12 + [25.0] * 10 + [20.0] * 10
    found = find(values, margin=MARGIN)
    assert [(step.start, round(step.ratio, 3)) for step in found.steps] == [(12, 1.25), (22, 0.8)]


def test_below_the_margin_nothing_is_a_step_however_steady():
    assert find([20.0] * 20 + [20.8] * 20, margin=MARGIN) == find([20.0] * 20, margin=MARGIN)


def test_before_the_baseline_nothing_is_suspected():
    assert find([20.0] * 3 + [30.0] * (BASELINE - 3), margin=MARGIN).steps == []
    assert find([], margin=MARGIN).steps == []
