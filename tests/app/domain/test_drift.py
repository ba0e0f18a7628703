from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.drift import Alone, Change, Identity, Judged, Movement, Snapshot, comparable, drift, reasons

TOP1 = Identity("x:net@v1", "y:net@v1", "accuracy", "top1")
TIME = Identity("x:net@v1", "y:net@v1", "latency", "latency onnxruntime cpu batch 1 threads 1")
FINE = Judged("inside", 0.001, (-0.002, 0.004), 0.005, 0.75, 0.749, basis="items")
FAST = Judged("inside", 0.01, (-0.01, 0.03), 0.05, 10.1, 10.0, basis="machine")


def audit(findings, **changed):
    pairs = {identity.pair: "interchangeable" for identity in findings}
    return Snapshot(**{"listings": None, "artifacts": {}, "pairs": pairs, "findings": findings} | changed)


def moved(identity, before, after):
    return drift(audit({identity: before}), audit({identity: after})).moved


def test_a_number_moves_when_the_intervals_are_apart_and_the_change_exceeds_the_margin():
    far = dataclasses.replace(FINE, effect=0.012, interval=(0.008, 0.016))
    assert moved(TOP1, FINE, far) == {TOP1: Movement(FINE, far, ("effect",))}
    overlapping = dataclasses.replace(far, interval=(0.003, 0.021))
    assert moved(TOP1, FINE, overlapping) == {}
    within_margin = dataclasses.replace(FINE, effect=0.0055, interval=(0.0045, 0.0065))
    assert moved(TOP1, FINE, within_margin) == {}


def test_another_verdict_is_a_move_whatever_the_numbers():
    undecided, outside = (dataclasses.replace(FINE, verdict=verdict) for verdict in ("inconclusive", "outside"))
    assert moved(TOP1, FINE, outside)[TOP1].why == ("verdict",)
    assert moved(TOP1, FINE, undecided)[TOP1].why == moved(TOP1, undecided, outside)[TOP1].why == ("evidence",)


def test_exact_numbers_move_as_soon_as_they_change():
    counted = Identity("x:net@v1", "y:net@v1", "architecture", "parameters")
    before = Judged("outside", 0.5, (0.5, 0.5), 0.0)
    after = dataclasses.replace(before, effect=0.5001, interval=(0.5001, 0.5001))
    assert moved(counted, before, after)[counted].why == ("effect",)


def test_latency_moves_alike_in_both_directions():
    """Twice as slow and twice as fast are as far from each other in the logarithm, and so is the margin."""
    slower = dataclasses.replace(FAST, effect=1.0, interval=(0.9, 1.1))
    faster = dataclasses.replace(FAST, effect=-0.5, interval=(-0.52, -0.48))
    assert reasons("latency", FAST, slower) == reasons("latency", FAST, faster) == ("effect",)
    margin = dataclasses.replace(FAST, effect=1.01 * 1.05 - 1, interval=(0.05, 0.07))
    assert reasons("latency", FAST, margin) == ()


def test_latency_of_another_machine_is_not_compared():
    elsewhere = dataclasses.replace(FAST, verdict="outside", effect=2.0, interval=(1.9, 2.1), basis="another")
    found = drift(audit({TIME: FAST}), audit({TIME: elsewhere}))
    assert (found.moved, found.incomparable, found.unchanged) == ({}, {("latency", "machine", "another"): 1}, 0)
    assert not found
    unknown = dataclasses.replace(FAST, basis=None)
    assert not comparable("latency", unknown, dataclasses.replace(unknown, effect=0.5))


def test_accuracy_on_other_items_is_not_compared():
    other = dataclasses.replace(FINE, basis="other items", verdict="outside")
    assert drift(audit({TOP1: FINE}), audit({TOP1: other})).incomparable == {("accuracy", "items", "other items"): 1}


def test_what_appears_says_what_the_other_audit_lacks():
    top5 = TOP1._replace(metric="top5")
    third = Identity("x:net@v1", "z:net@v1", "accuracy", "top1")
    before = audit({TOP1: FINE})
    after = audit({TOP1: FINE, top5: FINE, TIME: FAST, third: FINE})
    expected = {TIME: Alone(FAST, "dimension"), top5: Alone(FINE, "metric"), third: Alone(FINE, "pair")}
    assert drift(before, after).appeared == expected
    assert drift(after, before).vanished == expected


def test_listings_are_new_gone_or_described_otherwise():
    before = audit({}, listings={"x:a": {"classes": 10, "licence": "MIT"}, "x:b": {}})
    after = audit({}, listings={"x:a": {"classes": 11, "licence": "MIT"}, "x:c": {}})
    found = drift(before, after)
    assert (found.new, found.gone) == (("x:c",), ("x:b",))
    assert found.described == {"x:a": {"classes": Change(10, 11)}}


def test_without_kept_listings_those_that_were_compared_stand_for_them():
    before = audit({}, pairs={("x:a", "y:a"): "failed"})
    after = audit({}, pairs={("x:a", "y:a"): "interchangeable", ("x:b", "y:b"): "failed"}, listings={"x:z": {}})
    found = drift(before, after)
    assert (found.listings_kept, found.new, found.gone) == (False, ("x:b", "y:b"), ())
    assert found.pairs == {("x:a", "y:a"): Change("failed", "interchangeable")}


def test_other_bytes_behind_a_name_are_told():
    found = drift(audit({}, artifacts={"x:a": "1", "x:b": "2"}), audit({}, artifacts={"x:a": "9", "x:c": "3"}))
    assert found.artifacts == {"x:a": Change("1", "9")}
    assert found


refs = st.sampled_from(["x:a", "x:b", "y:a", "y:b"])
numbers = st.none() | st.floats(-0.99, 5) | st.sampled_from([math.inf, math.nan, -1.0])
judged = st.builds(
    Judged,
    verdict=st.sampled_from(["inside", "outside", "inconclusive"]),
    effect=numbers,
    interval=st.none() | st.tuples(st.floats(-1, 1), st.floats(1, 5)) | st.floats(-1, 5).map(lambda end: (end, end)),
    margin=st.none() | st.floats(0, 0.5),
    basis=st.none() | st.sampled_from(["one", "two"]),
)
identities = st.builds(
    Identity, refs, refs, st.sampled_from(["architecture", "accuracy", "latency"]), st.sampled_from(["m", "n"])
)


@st.composite
def snapshots(draw):
    findings = draw(st.dictionaries(identities, judged, max_size=8))
    outcomes = st.sampled_from(["interchangeable", "not_interchangeable", "failed"])
    more = draw(st.dictionaries(st.tuples(refs, refs), outcomes, max_size=3))
    return Snapshot(
        listings=draw(st.none() | st.dictionaries(refs, st.dictionaries(st.sampled_from("ab"), st.integers(0, 1)))),
        artifacts=draw(st.dictionaries(refs, st.sampled_from(["1", "2"]))),
        pairs={identity.pair: draw(outcomes) for identity in findings} | more,
        findings=findings,
    )


@given(snapshots())
@settings(deadline=None)
def test_an_audit_against_itself_has_no_drift(one):
    found = drift(one, one)
    assert not found
    assert (found.incomparable, found.unchanged) == ({}, len(one.findings))


@given(snapshots(), snapshots())
@settings(max_examples=300, deadline=None)
def test_drift_is_antisymmetric_and_forgets_no_finding(one, other):
    found, back = drift(one, other), drift(other, one)
    assert (found.new, found.gone, found.appeared, found.vanished) == (
        back.gone,
        back.new,
        back.vanished,
        back.appeared,
    )
    for mine, theirs in ((found.artifacts, back.artifacts), (found.pairs, back.pairs)):
        assert mine == {key: Change(change.after, change.before) for key, change in theirs.items()}
    assert found.described == {
        ref: {name: Change(change.after, change.before) for name, change in fields.items()}
        for ref, fields in back.described.items()
    }
    assert found.moved == {each: Movement(move.after, move.before, move.why) for each, move in back.moved.items()}
    assert found.incomparable == {(each, b, a): number for (each, a, b), number in back.incomparable.items()}
    assert (bool(found), found.unchanged) == (bool(back), back.unchanged)
    shared = found.unchanged + len(found.moved) + sum(found.incomparable.values())
    assert shared + len(found.appeared) == len(other.findings)
    assert shared + len(found.vanished) == len(one.findings)


@pytest.mark.parametrize("dimension", ["architecture", "latency"])
def test_numbers_that_are_none_or_not_finite_do_not_move_by_themselves(dimension):
    for odd in (None, math.nan):
        before, after = (Judged("inside", effect, (end, end), 0.0) for effect, end in ((0.0, 0.0), (odd, 1.0)))
        assert reasons(dimension, before, after) == ()
