from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from workers.engine.accuracy.answers import Answers, best, join
from workers.engine.accuracy.feed import Batch
from workers.engine.accuracy.labels import Mapping
from workers.engine.accuracy.predictions import Predictions, rank
from workers.engine.operations import merge
from workers.engine.protocol import UsageError

ITEMS, CLASSES = 40, 12
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, CLASSES, ITEMS).astype(np.int32)
LOGITS = RANDOM.normal(size=(ITEMS, CLASSES)).astype(np.float32)
DIGESTS = RANDOM.integers(0, 256, (ITEMS, 32), dtype=np.uint8)


def answered(start: int = 0, stop: int = ITEMS, *, scores: np.ndarray = LOGITS, shift: int = 0) -> Answers:
    answers = Answers(start, stop)
    mapping = Mapping(np.arange(scores.shape[1], dtype=np.int32) + shift)
    for first in range(start, stop, 7):
        rows = slice(first, min(first + 7, stop))
        answers.add(scores[rows], mapping, Batch(first, np.zeros((0,)), LABELS[rows], DIGESTS[rows]))
    return answers


def test_logits_become_probabilities_and_a_summary() -> None:
    final = answered().finish()
    exact = special.log_softmax(LOGITS.astype(np.float64), axis=1)
    assert final.outputs == "logits"
    assert final.log_sum == pytest.approx(special.logsumexp(LOGITS, axis=1), abs=1e-5)
    assert final.right == pytest.approx(exact[np.arange(ITEMS), LABELS], abs=1e-5)
    assert final.scores == pytest.approx(-np.sort(-np.exp(exact), axis=1)[:, :5], abs=1e-6)


def test_probabilities_have_their_own_logarithm() -> None:
    probabilities = special.softmax(LOGITS, axis=1)
    probabilities[3] = np.eye(CLASSES)[(LABELS[3] + 1) % CLASSES]
    final = answered(scores=probabilities).finish()
    assert final.outputs == "probabilities"
    assert (final.log_sum == 0).all()
    assert final.right[3] == -np.inf
    assert final.right[4] == pytest.approx(np.log(probabilities[4, LABELS[4]]))


def test_a_right_class_that_the_model_does_not_know_has_no_probability() -> None:
    # Label 0 is a background that the model lacks: its class 0 is the data set's 1.
    final = answered(scores=LOGITS[:, 1:], shift=1).finish()
    assert (final.right[LABELS == 0] == -np.inf).all()
    known = LABELS > 0
    expected = special.log_softmax(LOGITS[known, 1:], axis=1)
    assert final.right[known] == pytest.approx(expected[np.arange(known.sum()), LABELS[known] - 1], abs=1e-5)


def test_shards_join_to_the_bits_of_one_run(tmp_path: Path) -> None:
    for start, stop in ((21, 40), (0, 21)):
        answered(start, stop).write(tmp_path / f"{start}.npz")
    joined = join([Answers.read(tmp_path / f"{start}.npz") for start in (21, 0)], ITEMS)
    one, two = answered(), joined
    for name in ("labels", "classes", "scores", "right", "log_sum", "digests"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes(), name
    assert (two.done, two.columns, two.probabilities) == (ITEMS, CLASSES, False)


def test_one_shard_of_logits_makes_all_of_them_logits() -> None:
    mixed = special.softmax(LOGITS, axis=1)
    mixed[30] *= 2
    joined = join([answered(0, 21, scores=mixed), answered(21, 40, scores=mixed)], ITEMS)
    assert joined.finish().outputs == answered(scores=mixed).finish().outputs == "logits"
    assert joined.finish().scores.tobytes() == answered(scores=mixed).finish().scores.tobytes()


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ([(0, 21)], "hold 21 of the data set's 40 items"),
        ([(0, 21), (28, 40)], "leave off at item 21 and go on at 28"),
        ([(0, 21), (14, 40)], "leave off at item 21 and go on at 14"),
    ],
)
def test_shards_with_a_gap_or_an_item_twice_are_refused(parts: list[tuple[int, int]], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        join([answered(*part) for part in parts], ITEMS)


def test_shards_of_different_classes_are_refused() -> None:
    with pytest.raises(UsageError, match="from 21 with 11 classes and the first ones with 12"):
        join([answered(0, 21), answered(21, 40, scores=LOGITS[:, 1:])], ITEMS)


def test_a_truncated_shard_is_refused(tmp_path: Path) -> None:
    answered().write(tmp_path / "s.npz")
    (tmp_path / "t.npz").write_bytes((tmp_path / "s.npz").read_bytes()[:-200])
    with pytest.raises(UsageError, match="truncated"):
        Answers.read(tmp_path / "t.npz")


def test_shards_of_other_versions_are_not_merged(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=np.zeros((2, 8, 8), dtype=np.uint8), labels=np.array([0, 1]))
    made = [{"runtime_version": version, "batch": 32} for version in ("1.20", "1.21")]
    shards = [{"answers": "unread.npz", "provenance": each, "self_noise": None} for each in made]
    dataset = {"name": "d", "format": "npz", "path": str(tmp_path / "d.npz")}
    with pytest.raises(UsageError, match=r"with runtime_version 1\.20 and some with 1\.21"):
        merge.run({"dataset": dataset, "shards": shards}, tmp_path, lambda *_: None)


def test_the_best_are_those_of_a_whole_sort() -> None:
    coarse = np.round(RANDOM.normal(size=(50, 300)), 1).astype(np.float32)  # with many ties
    classes = np.broadcast_to(np.arange(300, dtype=np.int32), coarse.shape)
    for got, wanted in zip(best(coarse, 5), rank(classes, coarse, 5), strict=True):
        assert (got == wanted).all()


def test_the_summary_is_part_of_the_digest() -> None:
    base = Predictions(
        LABELS, LABELS[:, None], np.ones((ITEMS, 1), np.float32), "abc", log_sum=np.ones(ITEMS, np.float32)
    )
    assert base.digest() != replace(base, log_sum=None).digest() != replace(base, log_sum=-base.log_sum).digest()
