from __future__ import annotations

import pytest

from app.domain import claims
from app.domain.policies import POLICIES

BLOCK = {
    "dataset": "imagenet-val",
    "items": 50_000,
    "top1": {"a": 0.7035, "b": 0.75, "a_ci95": [0.6995, 0.7075], "b_ci95": [0.746, 0.754]},
    "top5": None,
}


def claim(value, metric="top1"):
    return {"metric": metric, "value": value, "source": "model card"}


@pytest.mark.parametrize(
    ("side", "value", "verdict"), [("a", 0.749, "outside"), ("b", 0.7495, "inside"), ("b", 0.7561, "inconclusive")]
)
def test_a_claim_holds_within_the_margin(side, value, verdict):
    (found,) = claims.findings(side, "keras:ResNet50@imagenet", [claim(value)], BLOCK, POLICIES["default"])
    assert found.metric == f"claim top1 of {side.upper()}"
    assert (found.a, found.b) == (BLOCK["top1"][side], value)
    assert found.effect == pytest.approx(BLOCK["top1"][side] - value)
    assert (found.verdict, found.severity) == (verdict, "advisory")
    assert found.details["ref"] == "keras:ResNet50@imagenet"


def test_what_was_not_measured_or_is_no_accuracy_is_no_finding():
    wanted = [claim(0.9, "top5"), claim(25e6, "parameters")]
    assert claims.findings("a", "x:y", wanted, BLOCK, POLICIES["default"]) == []
