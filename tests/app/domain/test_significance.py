from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from app.domain.significance import adjusted, indistinguishable

PAIRS = [(a, b) for a in "abcdef" for b in "abcdef" if a < b]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_adjusted_p_values_are_scipys_and_statsmodels(p_values):
    found = adjusted(p_values)
    assert found == pytest.approx(stats.false_discovery_control(np.array(p_values)).tolist())
    assert found == pytest.approx(multipletests(p_values, method="fdr_bh")[1].tolist())


def test_no_test_at_all():
    assert adjusted([]) == []
    assert indistinguishable([], []) == []


def test_groups_overlap_where_the_middle_is_like_both_ends():
    assert indistinguishable(["best", "middle", "worst"], [("worst", "best")]) == [
        ["best", "middle"],
        ["middle", "worst"],
    ]


def test_all_alike_is_one_group_and_all_apart_are_many():
    assert indistinguishable(list("cab"), []) == [["c", "a", "b"]]
    assert indistinguishable(list("cab"), [("a", "b"), ("b", "c"), ("a", "c")]) == [["c"], ["a"], ["b"]]


@given(st.sets(st.sampled_from(PAIRS)))
def test_groups_are_all_maximal_cliques(apart):
    groups = [set(group) for group in indistinguishable("abcdef", apart)]
    for group in groups:
        assert not any({a, b} <= group for a, b in apart)
        for other in set("abcdef") - group:
            assert any({other, member} == set(pair) for member in group for pair in apart)
    for pair in PAIRS:
        assert (pair in apart) != any(set(pair) <= group for group in groups)
