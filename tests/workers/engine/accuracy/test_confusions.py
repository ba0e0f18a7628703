"""Suspicions on simulated models, honest and faulty, and on the recorded ImageNet models."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from workers.engine.accuracy import recorded
from workers.engine.accuracy.confusions import suspicions

if TYPE_CHECKING:
    from numpy.typing import NDArray

RECORDED = Path(__file__).parents[5] / "shared/data/imagenet-recorded"


def model(labels: NDArray[Any], classes: int, accuracy: float, seed: int) -> NDArray[Any]:
    """Answer at random: right with a probability, else one time in four one class that is like the right one."""
    rng = np.random.default_rng(seed)
    wrong = np.where(rng.random(labels.size) < 0.25, (labels * 7 + 3) % classes, rng.integers(0, classes, labels.size))
    return np.where(rng.random(labels.size) < accuracy, labels, wrong)


def truth(classes: int, items: int) -> NDArray[Any]:
    return np.random.default_rng(7).permutation(np.arange(items) % classes)


@pytest.mark.parametrize(
    ("classes", "items", "accuracy"), [(10, 900, 0.95), (10, 900, 0.3), (1000, 20_000, 0.6), (1000, 5000, 0.5)]
)
def test_honest_models_raise_none(classes: int, items: int, accuracy: float) -> None:
    labels = truth(classes, items)
    for seed in range(20):
        a, b = model(labels, classes, accuracy, seed), model(labels, classes, accuracy, seed + 100)
        assert suspicions(labels, a, b) == []


@pytest.mark.parametrize("shift", [1, -1, 3])
@pytest.mark.parametrize(("classes", "accuracy"), [(10, 0.95), (10, 0.5), (1000, 0.7), (1000, 0.3)])
def test_shifted_labels_are_found_of_one_side_and_of_both(classes: int, accuracy: float, shift: int) -> None:
    labels = truth(classes, 50 * classes)
    a, b = model(labels, classes, accuracy, 1), model(labels, classes, accuracy, 2)
    (found,) = suspicions(labels, a, b + shift)
    assert (found["kind"], found["side"], found["shift"]) == ("shifted labels", "b", shift)
    evidence = found["evidence"]["b"]
    assert evidence["explained"] / evidence["items"] == pytest.approx(accuracy, abs=0.05)
    (found,) = suspicions((labels - shift) % classes, a, b)
    assert (found["kind"], found["side"], found["shift"]) == ("shifted labels", "both", shift)


def test_a_head_with_a_background_class_in_front_is_a_shift() -> None:
    labels = truth(1000, 20_000)
    (found,) = suspicions(labels, model(labels, 1000, 0.7, 1) + 1, model(labels, 1000, 0.7, 2))
    assert (found["side"], found["shift"], len(found["classes"])) == ("a", 1, 20)
    assert found["moved"] >= 950


@pytest.mark.parametrize(("classes", "items"), [(10, 900), (1000, 50_000)])
def test_swapped_and_turned_classes_are_found_with_their_names(classes: int, items: int) -> None:
    labels = truth(classes, items)
    order = np.arange(classes)
    order[[2, 5]] = [5, 2]
    order[[6, 7, 9]] = [7, 9, 6]
    a = model(labels, classes, 0.9, 1)
    swapped, turned = suspicions(labels, order[a], model(labels, classes, 0.9, 2))
    assert (swapped["kind"], swapped["side"]) == ("swapped classes", "a")
    assert swapped["classes"] == [{"label": 2, "answered": 5}, {"label": 5, "answered": 2}]
    assert turned["kind"] == "permuted classes"
    assert [pair["answered"] for pair in turned["classes"]] == [7, 9, 6]
    evidence = swapped["evidence"]["a"]
    assert evidence["explained"] > 0.8 * evidence["wrong"]


def test_classes_in_the_order_of_their_names_are_a_permutation() -> None:
    """``sorted`` puts class 10 before class 2: what becomes of indices that were sorted as text."""
    labels = truth(100, 5000)
    order = np.array(sorted(range(100), key=str))
    (found,) = suspicions(labels, order[model(labels, 100, 0.8, 1)], model(labels, 100, 0.8, 2))
    assert (found["kind"], found["side"], found["shift"]) == ("permuted classes", "a", None)
    assert found["moved"] >= 80


@pytest.mark.parametrize("seed", range(5))
def test_collapsed_models_raise_none(seed: int) -> None:
    labels = truth(10, 900)
    rng = np.random.default_rng(seed)
    fine = model(labels, 10, 0.95, 1)
    assert suspicions(labels, np.full(900, seed), fine) == []
    assert suspicions(labels, rng.integers(0, 10, 900), fine) == []
    # Everything is answered as one of two classes, these two for each other: wrong everywhere, not exchanged.
    exchanged = np.select([labels == 3, labels == 8], [8, 3], rng.choice([3, 8], 900))
    assert suspicions(labels, exchanged, fine) == []


def test_two_classes_that_are_exchanged_are_swapped_not_shifted() -> None:
    labels = truth(2, 200)
    (found,) = suspicions(labels, 1 - model(labels, 2, 0.9, 1), labels)
    assert (found["kind"], found["side"]) == ("swapped classes", "a")


def test_a_class_that_is_unknown_to_the_data_set_is_no_class() -> None:
    labels = truth(10, 900)
    assert suspicions(labels, np.full(900, -1), model(labels, 10, 0.9, 1)) == []


@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recorded ImageNet predictions at {RECORDED}")
def test_the_recorded_imagenet_models_raise_none() -> None:
    answers = [recorded.read(path, "imagenet") for path in sorted(RECORDED.glob("*.npz"))]
    assert len(answers) == 8
    for a, b in itertools.pairwise(answers):
        assert suspicions(a.labels, a.top1, b.top1) == []
