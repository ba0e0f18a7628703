from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.policies import POLICIES, Criterion, Dimension, InvalidPolicyError, Policy, read

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
FIELD = st.sampled_from([*Policy("p").content(), "version", "acuracy_margin"])


@given(st.dictionaries(FIELD, JSON) | JSON)
def test_whatever_is_written_is_a_policy_or_is_refused_field_by_field(value):
    mistakes = []
    try:
        policy = read(value)
    except InvalidPolicyError as error:
        policy, mistakes = None, error.mistakes
    assert (policy is None) == bool(mistakes)
    assert all(mistake.message.endswith(".") or "did you mean" in mistake.message for mistake in mistakes)
    if policy is not None:
        assert Policy.from_json(json.loads(json.dumps(policy.to_json()))) == policy


@pytest.mark.parametrize(
    ("value", "field", "said"),
    [
        ({"acuracy_margin": 0.1}, "acuracy_margin", "did you mean accuracy_margin?"),
        ({"zebra": 1}, "zebra", "it has name, critical"),
        ({"latency_margin": "5%"}, "latency_margin", "0.005 for 0.5 %"),
        ({"size_margin": True}, "size_margin", "a margin is a number"),
        ({"critical": "accuracy"}, "critical", "it is a list"),
        ({"critical": []}, "critical", "nothing could fail"),
        ({"critical": ["acuracy"]}, "critical", "did you mean accuracy?"),
        ({"advisory": [{"accuracy": 1}]}, "advisory", "no criterion"),
        ({"critical": ["latency"], "advisory": ["latency"]}, "advisory", "leave it in one of them"),
        ({"name": "n" * 101}, "name", "at most 100"),
        ({"version": 3}, "version", "no field version"),
    ],
)
def test_a_mistake_is_named_with_its_field_and_the_nearest(value, field, said):
    with pytest.raises(InvalidPolicyError) as refused:
        read({"name": "p"} | value)
    (mistake,) = refused.value.mistakes
    assert mistake.field == field
    assert said in mistake.message


def test_a_policy_stored_before_there_were_tiers_and_versions_is_read():
    stored = {"name": "old", "critical": ["accuracy"], "accuracy_margin": 0.1}
    policy = Policy.from_json(stored)
    assert (policy.version, policy.advisory, policy.accuracy_margin) == (None, frozenset(), 0.1)


def test_the_interface_decides_unless_it_is_advisory():
    asked = {Dimension.LATENCY}
    assert POLICIES["default"].criteria(asked) == [Criterion.LATENCY, Criterion.INTERFACE]
    assert POLICIES["default"].decides(Criterion.INTERFACE, asked)
    backbone = POLICIES["fine-tune-backbone"]
    assert not backbone.decides(Criterion.INTERFACE, asked)
    assert backbone.criteria(asked)[:2] == [Criterion.ARCHITECTURE, Criterion.WEIGHTS]
