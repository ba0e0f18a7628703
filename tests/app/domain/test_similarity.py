from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.similarity import Packed, cosines

VECTORS = st.lists(st.integers(-127, 127), min_size=4, max_size=4)


def test_cosines_by_name():
    others = {"same way": [6, 8, 0], "across": [0, 0, 9], "none": [0, 0, 0]}
    found = cosines(Packed.of([3, 4, 0]), [(name, Packed.of(vector)) for name, vector in others.items()])
    assert found == {"same way": pytest.approx(1.0), "across": pytest.approx(0.0), "none": 0.0}


@given(VECTORS, VECTORS)
def test_cosines_are_the_formula(a, b):
    length = math.hypot(*a) * math.hypot(*b)
    expected = sum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0
    (found,) = cosines(Packed.of(a), [("b", Packed.of(b))]).values()
    assert found == pytest.approx(expected)


def test_what_does_not_fit_into_a_byte_is_refused():
    with pytest.raises(ValueError, match="from -128 to 127"):
        Packed.of([128])
