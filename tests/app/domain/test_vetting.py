from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import answer, vetting
from app.domain.numbers import finite, restored
from app.domain.plan import Scope
from app.domain.policies import POLICIES, Criterion, Dimension, InvalidPolicyError, Policy, read
from app.domain.vetting import Decision, Judgement

EVERYTHING = (Dimension.ARCHITECTURE, Dimension.ACCURACY, Dimension.LATENCY)
DATASET = {"name": "digits", "format": "digits", "path": None, "label_space": "digits", "options": {}}


def side(ref, sha256="a", shape=(1, 1, 8, 8), layout="nchw"):
    listing = {"ref": ref, "architecture": "net", "label_space": "digits", "contract": {"layout": layout}}
    inspected = {
        "listing": listing,
        "artifact": {"sha256": sha256, "bytes": 1, "format": "onnx"},
        "input_shape": list(shape),
        "output_shape": [1, 10],
        "contract": {"layout": layout},
    }
    claims = [{"metric": "top1", "value": 0.5, "source": "s"}]
    return answer.Side(ref, inspected, None, claims)


def architecture(structural=0):
    counts = {"nodes": 5, "parameters": 100, "flops": 1000}
    difference = {"severity": "structural", "repeats": structural}
    verdict = "different" if structural else "identical"
    return {"verdict": verdict, "a": counts, "b": counts, "differences": [difference] if structural else []}


def accuracy(difference=0.0, width=0.001):
    top1 = {"a": 0.9 + difference, "b": 0.9, "difference": difference, "p_value": 0.5}
    for side_ in ("a", "b"):
        top1[f"{side_}_ci95"] = [top1[side_] - 0.01, top1[side_] + 0.01]
    for name, factor in (("ci95", 1.0), ("ci90", 0.84)):
        top1[name] = [difference - factor * width, difference + factor * width]
    ledger = {"both_right": 80, "a_only": 5, "b_only": 5, "both_wrong_same": 5, "both_wrong_different": 5}
    agreement = {"agreement": 0.99, "agreement_ci95": [0.98, 0.995], "ledger": ledger, "discordant": 0.1}
    return {"dataset": "digits", "items": 896, "top1": top1, "top5": None, **agreement}


def latency(ratio=1.0, spread=1.01, **point):
    times = {"a": {"median_ms": 2.0 * ratio}, "b": {"median_ms": 2.0}}
    where = {"runtime": "torch", "device": "cpu", "batch": 1, "threads": 1}
    value = {**where, **times, "ratio": ratio, "ci95": [ratio / spread, ratio * spread], **point}
    return {"operating_points": [value], "machine": {}}


def judged(policy, measured, *, a=None, b=None, asked=EVERYTHING, errors=None):
    sides = (a or side("z:a"), b or side("y:b"))
    return answer.build(*sides, measured=measured, errors=errors or {}, policy=policy, asked=asked)


def scope(policy, asked=EVERYTHING, **changed):
    return Scope(asked, policy, **({"dataset": DATASET} | changed))


def vet(policy, measured, **changed):
    asked = changed.get("asked", EVERYTHING)
    return vetting.decide(judged(policy, measured, **changed), policy, scope(policy, asked))


def everything(**changed):
    return {"architecture": architecture(), "accuracy": accuracy(), "latency": latency()} | changed


MARGIN = st.floats(0, 0.2)
TIERS = st.dictionaries(st.sampled_from(list(Criterion)), st.sampled_from(["critical", "advisory"]))


@st.composite
def policies(draw):
    tiers = draw(TIERS)
    named = {tier: frozenset(each for each, its in tiers.items() if its == tier) for tier in ("critical", "advisory")}
    margins = {name: draw(MARGIN) for name in ("accuracy_margin", "latency_margin", "size_margin")}
    return Policy("p", critical=named["critical"] or None, advisory=named["advisory"], **margins)


@st.composite
def measurements(draw):
    blocks = {
        "architecture": architecture(draw(st.integers(0, 2))),
        "accuracy": accuracy(draw(st.floats(-0.1, 0.1)), draw(st.floats(0.0001, 0.1))),
        "latency": latency(draw(st.floats(0.5, 2)), draw(st.floats(1.001, 1.5)), void=draw(st.booleans())),
    }
    return {name: block for name, block in blocks.items() if draw(st.booleans())}


@st.composite
def pairs(draw):
    b = side("y:b", draw(st.sampled_from("ab")), draw(st.sampled_from([(1, 1, 8, 8), (1, 8, 8, 1)])))
    return {"a": side("z:a"), "b": b}


@given(policies(), measurements(), pairs())
def test_the_decision_follows_from_the_critical_criteria_alone(policy, measured, sides):
    found = vet(policy, measured, **sides)
    critical = [check for check in found.checks if check.tier == "critical"]
    outside = any(check.verdict is Judgement.OUTSIDE for check in critical)
    open_ = any(check.is_open for check in critical)
    assert found.verdict is (Decision.FAIL if outside else Decision.NOT_ENOUGH_EVIDENCE if open_ else Decision.PASS)
    assert bool(found.needed) == (found.verdict is Decision.NOT_ENOUGH_EVIDENCE)
    for check in critical:
        assert (check.needed is not None) == check.is_open
        wanted = {
            Decision.FAIL: check.verdict is Judgement.OUTSIDE,
            Decision.NOT_ENOUGH_EVIDENCE: check.is_open,
            Decision.PASS: True,
        }
        if wanted[found.verdict]:
            assert check.said[1:] in found.reason
    for number in (number for check in found.checks for number in check.numbers):
        assert number["margin"] is not None


@given(policies(), measurements(), pairs())
def test_it_agrees_with_the_verdict_of_the_comparison(policy, measured, sides):
    words = {
        Decision.PASS: "interchangeable",
        Decision.FAIL: "not_interchangeable",
        Decision.NOT_ENOUGH_EVIDENCE: "inconclusive",
    }
    found = judged(policy, measured, **sides)
    assert words[vetting.decide(found, policy, scope(policy)).verdict] == found.verdict


@given(policies(), policies(), measurements(), pairs())
def test_judging_again_is_as_judging_at_first(first, second, measured, sides):
    stored = json.loads(json.dumps(finite(judged(first, measured, **sides).result), allow_nan=False))
    again = answer.again(stored, second, EVERYTHING)
    at_first = judged(second, measured, **sides)
    assert json.dumps(finite(again.result), sort_keys=True) == json.dumps(finite(at_first.result), sort_keys=True)
    assert [each.to_json() for each in again.findings] == [each.to_json() for each in at_first.findings]


def test_numbers_that_are_not_finite_come_back():
    value = {"x": [math.inf, -math.inf, math.nan], "kind": "nan", "value": None, "y": {"value": None, "kind": "other"}}
    assert repr(restored(finite(value))) == repr(value)


@given(measurements(), pairs(), st.sampled_from(["embedding-index", "fine-tune-backbone"]))
def test_what_was_not_measured_never_passes(measured, sides, name):
    same_bytes = sides["b"].inspected["artifact"]["sha256"] == "a"
    graphs = (measured.get("architecture") or {}).get("verdict") == "identical"
    if vet(POLICIES[name], measured, **sides).verdict is Decision.PASS:
        assert same_bytes
        assert graphs


def test_features_follow_from_one_network_with_the_same_weights_fed_the_same_way():
    index = POLICIES["embedding-index"]
    assert vet(index, everything()).verdict is Decision.PASS
    for other in ({"b": side("y:b", sha256="b")}, {"b": side("y:b", layout="nhwc")}):
        found = vet(index, everything(), **other)
        assert found.verdict is Decision.NOT_ENOUGH_EVIDENCE
        assert "features are measured nowhere yet" in found.reason


def test_the_reason_names_the_number_with_its_interval_and_margin():
    api = POLICIES["drop-in-api"]
    failed = vet(api, everything(accuracy=accuracy(-0.05, 0.01), latency=latency(1.2, 1.02)))
    assert failed.verdict is Decision.FAIL
    said = "top-1 85.00 % against 90.00 %, -5.00 % (95 % interval -6.00 % to -4.00 %, margin 0.5 %)"
    assert said in failed.reason
    assert "2.4 ms against 2 ms, ratio 1.200 (95 % interval 1.176 to 1.224, margin 5 %)" in failed.reason
    assert "the candidate is slower" in failed.reason


def test_what_would_decide_is_told_the_cheapest_first():
    api = POLICIES["drop-in-api"]
    found = vet(api, everything(accuracy=accuracy(0.0, 0.02), latency=latency(1.0, 1.1)))
    # The half-width is log(1.1), the margin log(1.05): (0.0953 / 0.0488)^2 = 3.8 times the 60 s.
    assert found.needed == [
        "measure latency for about 230 s (--budget)",
        "a data set of about 34,280 items (this one has 896)",
    ]
    assert found.needed[0] in found.reason
    hopeless = Policy("p", critical=frozenset({Criterion.WEIGHTS, Criterion.ACCURACY}))
    last = vet(hopeless, everything(accuracy=accuracy(0.0, 0.02)), b=side("y:b", sha256="b")).needed
    assert [line.split(" ")[0] for line in last] == ["a", "nothing"]
    unmeasured = vet(api, {"accuracy": accuracy()}, asked=(Dimension.ACCURACY,))
    assert unmeasured.needed == ["measure latency (--dimension latency)"]


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"void": True}, "a quieter machine"),
        ({"ci95": None, "blocks": 1}, "gives no interval; measure longer"),
        ({"ci95": [0.99, 1.01], "cpu_ci95": [1.5, 1.6]}, "time and CPU time disagree"),
        ({"ratio": 1.05, "ci95": [1.0, 1.1]}, "hours of timing"),
    ],
)
def test_latency_that_more_time_does_not_surely_decide(point, said):
    found = vet(POLICIES["drop-in-api"], everything(latency=latency(**{"spread": 1.1} | point)))
    assert said in found.needed[0]


def test_a_point_that_was_asked_for_and_not_measured_is_no_pass():
    left = [{"operating_point": "torch cpu batch 8 threads 1", "reason": "out of memory"}]
    found = vet(POLICIES["drop-in-api"], everything(latency=latency() | {"not_measured": left}))
    assert found.verdict is Decision.NOT_ENOUGH_EVIDENCE
    assert "not measured at torch cpu batch 8 threads 1 (out of memory)" in found.reason


def test_a_margin_of_zero_is_never_shown():
    found = vet(Policy("exact", critical=frozenset({Criterion.ACCURACY}), accuracy_margin=0.0), everything())
    assert "larger accuracy_margin" in found.needed[0]


@pytest.mark.parametrize(
    ("code", "said"),
    [("no-dataset", "name a data set"), ("random-weights", "weights that were trained"), ("not-loadable", "mend what")],
)
def test_why_accuracy_was_not_measured(code, said):
    error = {"accuracy": {"class": "usage", "code": code, "message": "It was not to be had."}}
    found = vet(POLICIES["drop-in-api"], {"latency": latency()}, errors=error, asked=(Dimension.LATENCY,))
    assert found.verdict is Decision.NOT_ENOUGH_EVIDENCE
    assert "Accuracy was not measured (It was not to be had)." in found.reason
    assert said in found.needed[0]


def test_recorded_predictions_have_no_interface():
    recorded = {"a": answer.Side("recorded:a", None), "b": answer.Side("recorded:b", None)}
    measured, asked = {"accuracy": accuracy()}, (Dimension.ACCURACY,)
    alone = Policy("alone", critical=frozenset({Criterion.ACCURACY}))
    assert vet(alone, measured, asked=asked, **recorded).verdict is Decision.PASS
    api = vet(POLICIES["drop-in-api"], measured, asked=asked, **recorded)
    assert api.verdict is Decision.NOT_ENOUGH_EVIDENCE
    assert "of the models themselves" in api.needed[1]
    weights = vet(POLICIES["fine-tune-backbone"], measured, asked=asked, **recorded)
    assert "the models were not loaded" in weights.reason


def test_advisories_are_told_and_decide_nothing():
    policy = Policy("p", critical=frozenset({Criterion.ACCURACY}), advisory=frozenset({Criterion.LATENCY}))
    found = vet(policy, everything(latency=latency(2.0), architecture=architecture(3)), b=side("y:b", layout="nhwc"))
    assert found.verdict is Decision.PASS
    assert [line.split(" ")[0] for line in found.advisories[:2]] == ["latency:", "3"]
    assert "the input contracts differ in layout" in found.advisories


BETTER = Policy("ours", critical=frozenset({Criterion.ACCURACY, Criterion.LATENCY}), allow_better=True)
STRICT = Policy("ours", critical=BETTER.critical)


@pytest.mark.parametrize(
    ("measured", "strict", "better"),
    [
        ({"accuracy": accuracy(0.05)}, Decision.FAIL, Decision.PASS),
        ({"accuracy": accuracy(-0.05)}, Decision.FAIL, Decision.FAIL),
        ({"accuracy": accuracy(0.02, width=0.019)}, Decision.NOT_ENOUGH_EVIDENCE, Decision.PASS),
        ({"accuracy": accuracy(-0.02, width=0.019)}, Decision.NOT_ENOUGH_EVIDENCE, Decision.NOT_ENOUGH_EVIDENCE),
        ({"accuracy": accuracy(0.02, width=0.04)}, Decision.NOT_ENOUGH_EVIDENCE, Decision.NOT_ENOUGH_EVIDENCE),
        ({"latency": latency(0.5)}, Decision.FAIL, Decision.PASS),
        ({"latency": latency(2.0)}, Decision.FAIL, Decision.FAIL),
        ({"latency": latency(0.95, 1.05)}, Decision.NOT_ENOUGH_EVIDENCE, Decision.PASS),
        ({"latency": latency(0.95, 1.2)}, Decision.NOT_ENOUGH_EVIDENCE, Decision.NOT_ENOUGH_EVIDENCE),
        ({"latency": latency(0.5, void=True)}, Decision.NOT_ENOUGH_EVIDENCE, Decision.NOT_ENOUGH_EVIDENCE),
        ({"latency": latency(0.5), "accuracy": accuracy(-0.05)}, Decision.FAIL, Decision.FAIL),
        ({}, Decision.PASS, Decision.PASS),
    ],
)
def test_a_better_candidate_passes_where_the_policy_allows_it(measured, strict, better):
    assert vet(STRICT, everything(**measured)).verdict is strict
    found = vet(BETTER, everything(**measured))
    assert found.verdict is better
    for check in found.checks:
        if check.tier == "critical" and check.numbers:
            assert [number["verdict"] for number in check.numbers] == [check.verdict]


def test_who_fails_by_being_better_is_told():
    assert "allow_better" in vet(STRICT, everything(latency=latency(0.5))).reason
    assert "allow_better" not in vet(STRICT, everything(latency=latency(0.5), accuracy=accuracy(-0.05))).reason
    assert "allow_better" not in vet(STRICT, everything(latency=latency(2.0))).reason
    assert "allow_better" in vet(STRICT, everything(latency=latency(0.95, 1.05))).reason
    assert "allow_better" not in vet(STRICT, {"latency": latency(0.95, 1.05)}).reason


@given(policies(), measurements(), pairs())
def test_what_passes_on_both_sides_passes_on_one(policy, measured, sides):
    if vet(policy, measured, **sides).verdict is Decision.PASS:
        assert vet(replace(policy, allow_better=True), measured, **sides).verdict is Decision.PASS


def test_a_policy_says_only_where_better_is_allowed():
    assert "allow_better" not in STRICT.content()
    assert Policy.from_json(BETTER.to_json()) == BETTER
    with pytest.raises(InvalidPolicyError, match="allow_better is 'yes'; write true or false"):
        read({"name": "ours", "allow_better": "yes"})
