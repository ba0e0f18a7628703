from itertools import islice, pairwise

import numpy as np
import pytest

from workers.engine.latency.order import rounds, williams


@pytest.mark.parametrize("n", range(2, 10))
def test_each_item_stands_equally_often_at_each_place_and_after_each_other(n: int) -> None:
    rows = williams(n)
    places = np.zeros((n, n), dtype=int)
    follows = np.zeros((n, n), dtype=int)
    for row in rows:
        assert sorted(row) == list(range(n))
        for place, item in enumerate(row):
            places[item, place] += 1
        for before, after in pairwise(row):
            follows[before, after] += 1
    assert len(set(places.ravel())) == 1
    assert len(set(follows[~np.eye(n, dtype=bool)])) == 1


def test_two_items_go_abba() -> None:
    turns = list(islice(rounds(2, np.random.default_rng(0)), 4))
    assert turns == [[0, 1], [1, 0], [0, 1], [1, 0]]


def test_a_cycle_of_rounds_is_one_whole_design_whatever_the_seed() -> None:
    for seed in range(5):
        turns = list(islice(rounds(3, np.random.default_rng(seed)), 12))
        assert sorted(turns[:6]) == sorted(williams(3)) == sorted(turns[6:])


def test_one_item_repeats_itself() -> None:
    assert list(islice(rounds(1, np.random.default_rng(0)), 2)) == [[0], [0]]
