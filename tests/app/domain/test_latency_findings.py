import pytest

from app.domain.latency import findings, judge_latency, latency_block, words
from app.domain.policies import POLICIES, Dimension
from app.domain.verdicts import Place, Severity

DEFAULT = POLICIES["default"]


def point(**changed):
    found = {"runtime": "native", "device": "cpu", "batch": 1, "threads": 1}
    found |= {"ratio": 1.31, "ci95": [1.3, 1.32], "blocks": 6, "stopped": "decided", "control": None}
    found |= {"a": {"median_ms": 1.31, "deterministic": True}, "b": {"median_ms": 1.0, "deterministic": True}}
    return found | changed


def judged(*points, policy=DEFAULT):
    block = judge_latency({"operating_points": list(points), "machine": {"short": "0123456789ab"}}, policy)
    return block, findings(block, policy, [Dimension.LATENCY])


def framework(low, high):
    return {"common": "onnxruntime", "ratio": (low * high) ** 0.5, "ci95": [low, high], "model_ratio": 1.01}


@pytest.mark.parametrize(
    ("low", "high", "verdict", "where"),
    [
        (1.28, 1.3, "b_faster", Place.OUTSIDE),
        (0.7, 0.8, "a_faster", Place.OUTSIDE),
        (0.99, 1.01, "same", Place.INSIDE),
        (0.99, 1.2, "inconclusive", Place.INCONCLUSIVE),
    ],
)
def test_a_frameworks_share_is_judged_and_told_beside_the_ratio(low, high, verdict, where):
    block, (ratio, share) = judged(point(framework=framework(low, high)))
    assert block["operating_points"][0]["framework"]["verdict"] == verdict
    assert (ratio.metric, ratio.severity) == ("latency native cpu batch 1 threads 1", Severity.CRITICAL)
    assert (share.metric, share.severity) == ("framework native cpu batch 1 threads 1", Severity.ADVISORY)
    assert share.verdict is where
    assert share.ci95 == pytest.approx((low - 1, high - 1))
    assert share.details["common"] == "onnxruntime"
    assert ratio.details["machine"] == "0123456789ab"


def test_a_framework_without_an_interval_or_in_a_void_session_says_nothing():
    one = framework(1.28, 1.3) | {"ci95": None}
    _, (_, share) = judged(point(framework=one))
    assert share.verdict is Place.INCONCLUSIVE
    _, (_, share) = judged(point(framework=framework(1.28, 1.3), void=True))
    assert share.verdict is Place.INCONCLUSIVE


def test_a_side_whose_output_changes_is_one_finding():
    changing = {"median_ms": 1.0, "deterministic": False}
    _, found = judged(point(b=changing), point(b=changing, batch=8))
    (told,) = [item for item in found if item.metric == "output changes"]
    assert (told.a, told.b, told.severity) == (0.0, 1.0, Severity.ADVISORY)
    assert told.details["operating_points"] == {
        "a": [],
        "b": ["native cpu batch 1 threads 1", "native cpu batch 8 threads 1"],
    }
    assert told.magnitude == 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ci95": [1.0, 1.2], "blocks_needed": 31, "reason": "the budget of 5 s was spent"}, "about 31 blocks would"),
        ({"ci95": [1.0, 1.2], "blocks_needed": None}, "crosses the margin of 5 %"),
        ({"ci95": None, "blocks": 1}, "1 block gives no interval"),
        ({"void": True}, "the control, one model against itself, moved"),
    ],
)
def test_what_keeps_a_point_from_a_verdict_is_said(changed, said):
    block, (finding,) = judged(point(**changed))
    (found,) = block["operating_points"]
    assert found["verdict"] == "inconclusive"
    assert said in found["undecided"]
    assert finding.details["undecided"] == found["undecided"]


def test_a_decided_point_has_nothing_undecided():
    block, _ = judged(point())
    assert block["operating_points"][0]["undecided"] is None


def test_a_listing_against_itself_keeps_the_times_of_both_copies():
    entries = [{"ref": "x", "median_ms": 1.0}, {"ref": "x", "median_ms": 1.01}]
    pair = {"a": "x", "b": "x", "ratio": 0.99, "ci95": [0.98, 1.0]}
    session = {"operating_points": [{"entries": entries, "pairs": [pair], "control": None}], "machine": {}}
    (point,) = latency_block(session, "x", "x")["operating_points"]
    assert (point["a"]["median_ms"], point["b"]["median_ms"]) == (1.0, 1.01)


def test_points_that_lack_one_of_the_pair_say_why():
    missing = point(entries=[], pairs=[], excluded=[{"ref": "y", "reason": "its graph is fixed"}], reason=None, batch=8)
    stopped = point(entries=[], pairs=[], excluded=[], reason="fewer than two listings run on torch; y cannot")
    block = latency_block({"operating_points": [missing, stopped], "machine": {}}, "x", "y")
    assert block["operating_points"] == []
    assert block["not_measured"] == [
        {"operating_point": "native cpu batch 8 threads 1", "reason": "y: its graph is fixed"},
        {
            "operating_point": "native cpu batch 1 threads 1",
            "reason": "fewer than two listings run on torch; y cannot",
        },
    ]


def test_an_operating_point_names_what_is_not_the_default():
    special = {"precision": "bfloat16", "layout": "channels_last", "graph_optimization": None, "boundary": "end_to_end"}
    assert words(point() | special) == "native cpu batch 1 threads 1 bfloat16 channels_last end_to_end"
    plain = {"precision": "float32", "layout": None, "graph_optimization": "all", "boundary": "host"}
    assert words(point() | plain) == "native cpu batch 1 threads 1"
    assert words(point(graph_optimization="basic")) == "native cpu batch 1 threads 1 optimization basic"
