"""Recorded answers in another label space than their data set's: mapped as a live model's are, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from workers.engine.accuracy import labels, store
from workers.engine.operations import importing
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from workers.engine.accuracy.predictions import Predictions

ITEMS = 300
_, ABOVE = labels.superclasses("cifar-100") or ("", np.zeros(0, np.int32))


@pytest.fixture
def fine() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Labels of the 100 classes and an answer of every class, its columns in no order."""
    random = np.random.default_rng(0)
    scores = random.dirichlet(np.full(100, 0.1), ITEMS)
    classes = np.stack([random.permutation(100) for _ in range(ITEMS)])
    return random.integers(0, 100, ITEMS), classes, scores


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., tuple[dict[str, Any], Predictions]]:
    """Import a file into a data set and read what is stored."""

    def call(
        columns: Any, space: str | None, known_space: str | None, known: Path | None = None, classes: int | None = None
    ) -> tuple[dict[str, Any], Predictions]:
        path = tmp_path / "answers.npz"
        np.savez(path, **dict(zip(("labels", "classes", "scores"), columns, strict=True)))
        request = {"path": str(path), "dataset": "d", "label_space": space, "known_label_space": known_space}
        request |= {"known": None if known is None else str(known), "known_classes": classes}
        result = importing.run(request, tmp_path, lambda *_: None)
        return result.result, store.read(tmp_path / "predictions.npz")

    return call


@pytest.fixture
def coarse(tmp_path: Path, imported: Any, fine: Any) -> Path:
    """Stored answers on the same items, labelled with their 20 superclasses."""
    truth = ABOVE[fine[0]]
    imported((truth, truth[:, None], np.ones((ITEMS, 1))), "cifar-100-coarse", None)
    return (tmp_path / "predictions.npz").rename(tmp_path / "coarse.npz")


@pytest.mark.parametrize("labelled", ["fine", "coarse"])
def test_fine_answers_are_judged_as_a_live_models_are(imported: Any, fine: Any, coarse: Path, labelled: str) -> None:
    truth, classes, scores = fine
    written = truth if labelled == "fine" else ABOVE[truth]
    values, stored = imported((written, classes, scores), "cifar-100", "cifar-100-coarse", coarse)
    in_order = np.take_along_axis(scores, np.argsort(classes, axis=1), axis=1).astype(np.float32)
    live, merged = labels.mapping("cifar-100", 100, "cifar-100-coarse", 20).merge(in_order)
    ranks = np.argsort(-merged, axis=1)[:, :5]
    assert np.array_equal(stored.classes, live[ranks])
    assert np.array_equal(stored.scores, np.take_along_axis(merged, ranks, axis=1))
    assert np.array_equal(stored.labels, ABOVE[truth])
    assert (values["classes"], values["items_digest"]) == (20, store.read(coarse).items_digest)
    assert values["top1"] == (ABOVE[classes[np.arange(ITEMS), scores.argmax(axis=1)]] == ABOVE[truth]).mean()


def test_ranks_that_were_not_recorded_are_not_made_up(imported: Any, fine: Any, coarse: Path) -> None:
    """Of five fine classes some rows have fewer superclasses, so that the fifth superclass is not known."""
    truth, _, _ = fine
    same = np.flatnonzero(ABOVE == 0)
    classes = np.tile(same[:5], (ITEMS, 1))
    classes[1:, 3:] = np.flatnonzero(ABOVE == 7)[:2]
    scores = np.tile([0.1, 0.2, 0.3, 0.25, 0.15], (ITEMS, 1))
    values, stored = imported((truth, classes, scores), "cifar-100", "cifar-100-coarse", coarse)
    assert stored.classes.tolist() == [[0]] * ITEMS
    assert values["top5"] is None


@pytest.mark.parametrize("labelled", ["imagenet-1k", "imagenet-1k-background"])
def test_the_background_class_is_never_right(imported: Any, tmp_path: Path, labelled: str) -> None:
    truth = np.arange(1000)
    imported((truth, truth[:, None], np.ones((1000, 1))), "imagenet-1k", None)
    known = (tmp_path / "predictions.npz").rename(tmp_path / "known.npz")
    answers = np.stack([truth + 1, np.zeros(1000, int)], axis=1)
    scores = np.where((truth < 900)[:, None], [0.8, 0.2], [0.2, 0.8])
    written = truth if labelled == "imagenet-1k" else truth + 1
    values, stored = imported((written, answers, scores), "imagenet-1k-background", "imagenet-1k", known)
    assert values["top1"] == 0.9
    assert stored.classes[[0, 999]].tolist() == [[0, -1], [-1, 999]]


@pytest.mark.parametrize(
    ("space", "known_space", "classes", "sentence"),
    [
        (None, "imagenet-1k", None, r"array 'classes', row 2 has a class that is no class index of 1,000 classes"),
        ("imagenet-1k", "imagenet-1k", None, r"array 'classes', row 2 has a class .* of 1,000 classes"),
        ("cifar-10", "imagenet-1k", None, "no mapping is known"),
        ("cifar-100-coarse", "cifar-100", None, "no mapping is known"),
        ("ours", "imagenet-1k", None, "no mapping is known"),
        ("imagenet-1k-background", "imagenet-1k", None, "has no predictions yet that its items are known by"),
        (None, None, 1000, "of 1,000 classes"),
    ],
)
def test_what_does_not_fit_is_refused(imported: Any, space: str, known_space: str, classes: int, sentence: str) -> None:
    columns = (np.array([0, 1, 2]), np.array([[0], [1], [1000]]), np.ones((3, 1)))
    with pytest.raises(UsageError, match=sentence):
        imported(columns, space, known_space, None, classes)


def test_labels_in_neither_space_do_not_join(imported: Any, fine: Any, coarse: Path) -> None:
    truth, classes, scores = fine
    other = truth.copy()
    other[7] = int(np.flatnonzero(ABOVE[truth[7]] != ABOVE)[-1])
    with pytest.raises(UsageError, match=r"Array 'labels', row 7 .* \(1 of 300 differ\)"):
        imported((other, classes, scores), "cifar-100", "cifar-100-coarse", coarse)
