from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import distance
from scipy.stats import binomtest, false_discovery_control

from workers.engine.accuracy import classes, confidence
from workers.engine.accuracy.predictions import Predictions


def test_only_the_class_that_differs_is_told_apart() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 50)
    right_a = random.random(1000) < 0.8
    right_b = right_a ^ (random.random(1000) < 0.05)
    right_a[labels == 7], right_b[labels == 7] = True, np.arange(50) < 25
    found = classes.told_apart(labels, right_a, right_b)
    assert (found["tested"], found["number"]) == (20, 1)
    (only,) = found["found"]
    assert (only["class"], only["items"], only["a"], only["b"]) == (7, 50, 1.0, 0.5)


def test_tests_and_their_adjustment_are_scipys() -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 40, 4000)
    right_a, right_b = (random.random((2, 4000)) < np.array([[0.8], [0.7]])).tolist()
    right_a, right_b = np.array(right_a), np.array(right_b)
    expected = []
    for label in range(40):
        chosen = labels == label
        a_only = int((right_a & ~right_b)[chosen].sum())
        b_only = int((right_b & ~right_a)[chosen].sum())
        expected.append(binomtest(a_only, a_only + b_only).pvalue)
    adjusted = false_discovery_control(np.array(expected))
    found = classes.told_apart(labels, right_a, right_b)
    assert found["number"] == int((adjusted <= 0.05).sum()) > 0
    for item in found["found"]:
        assert item["p_value"] == pytest.approx(expected[item["class"]])
        assert item["q_value"] == pytest.approx(adjusted[item["class"]])


def predictions(first: np.ndarray, right: np.ndarray) -> Predictions:
    labels = np.zeros(len(first), dtype=np.int32)
    best = np.where(right, 0, 1).astype(np.int32)
    ranked = np.stack([best, np.full(len(first), 2, dtype=np.int32)], axis=1)
    scores = np.stack([first, (1 - first) / 2], axis=1).astype(np.float32)
    return Predictions(labels, ranked, scores, "items")


def test_a_calibrated_model_has_no_error_and_an_overconfident_one_has_its_excess() -> None:
    sure = np.full(1000, 0.9)
    assert confidence.calibration_error(sure, np.arange(1000) < 900) == pytest.approx(0.0, abs=1e-9)
    assert confidence.calibration_error(sure, np.arange(1000) < 600) == pytest.approx(0.3)
    mixed = np.concatenate([np.full(500, 0.95), np.full(500, 0.55)])
    right = np.concatenate([np.ones(500, dtype=bool), np.zeros(500, dtype=bool)])
    assert confidence.calibration_error(mixed, right) == pytest.approx((0.05 + 0.55) / 2)


def test_the_shift_is_scipys_and_nothing_for_the_same_model() -> None:
    random = np.random.default_rng(2)
    a, b = random.uniform(0.4, 1, 5000), random.uniform(0.6, 1, 5000)
    right = random.random(5000) < 0.7
    found = confidence.compare(predictions(a, right), predictions(b, right))
    histograms = [np.histogram(side, bins=15, range=(0, 1))[0] for side in (a, b)]
    expected = distance.jensenshannon(*histograms, base=2) ** 2
    assert found is not None
    assert found["jensen_shannon"] == pytest.approx(expected, rel=1e-6)
    assert found["a"]["mean"] == pytest.approx(a.mean(), rel=1e-5)
    same = confidence.compare(predictions(a, right), predictions(a, right))
    assert same is not None
    assert same["jensen_shannon"] == 0


def test_scores_that_are_no_probabilities_have_no_confidence() -> None:
    good = predictions(np.full(10, 0.5), np.ones(10, dtype=bool))
    logits = Predictions(good.labels, good.classes, good.scores * 20, "items")
    assert confidence.compare(good, logits) is None
