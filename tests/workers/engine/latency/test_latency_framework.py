import numpy as np
import pytest
from scipy.stats import ttest_ind

from workers.engine.latency.framework import TRIM, compare, difference_interval


@pytest.mark.parametrize(("n", "m"), [(2, 2), (4, 9), (5, 5), (12, 30)])
def test_the_interval_is_yuens(n, m):
    rng = np.random.default_rng(n)
    x, y = rng.normal(0.3, 0.02, n), rng.normal(0.0, 0.05, m)
    found = difference_interval(x, y)
    expected = ttest_ind(x, y, equal_var=False, trim=TRIM).confidence_interval(0.95)
    assert found == pytest.approx((expected.low, expected.high))


def test_one_block_of_ten_that_is_hit_moves_nothing():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.1, 0.002, 10), rng.normal(0.0, 0.002, 10)
    x[3] = 2.0
    low, high = difference_interval(x, y)
    assert 0.095 < low < 0.1 < high < 0.105


def test_the_interval_covers_at_its_level_with_unequal_spreads_and_few_blocks():
    rng = np.random.default_rng(1)
    covered = 0
    runs = 2000
    for _ in range(runs):
        low, high = difference_interval(rng.normal(0.2, 0.01, 6), rng.normal(0.0, 0.002, 9))
        covered += low <= 0.2 <= high
    assert 0.93 <= covered / runs <= 0.98


def test_one_block_gives_a_ratio_without_an_interval():
    assert compare(np.log([2.0]), np.log([1.0, 1.0])) == {"ratio": 2.0, "ci95": None, "model_ratio": 1.0}


def test_equal_blocks_give_a_point():
    assert compare(np.log([3.0, 3.0]), np.log([2.0, 2.0]))["ci95"] == pytest.approx([1.5, 1.5])
