import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workers.engine.accuracy import paired
from workers.engine.accuracy.predictions import Predictions, rank
from workers.engine.protocol import UsageError


def predictions(labels: np.ndarray, classes: np.ndarray, digest: str = "items") -> Predictions:
    scores = np.sort(np.random.default_rng(0).random(classes.shape), axis=1)[:, ::-1]
    return Predictions(labels.astype(np.int32), classes.astype(np.int32), scores.astype(np.float32), digest)


def test_tango_without_discordant_items_is_the_closed_form() -> None:
    z2 = stats.norm.ppf(0.975) ** 2
    assert paired.tango_interval(0, 0, 500) == pytest.approx((-z2 / (500 + z2), z2 / (500 + z2)), abs=1e-12)


def test_tango_at_the_edges() -> None:
    assert paired.tango_interval(20, 0, 20)[1] == 1
    assert paired.tango_interval(0, 20, 20)[0] == -1


counts = st.tuples(*[st.integers(0, 400)] * 3).filter(lambda cells: sum(cells) > 0)


@given(counts)
@settings(max_examples=200, deadline=None)
def test_tango_mirrors_contains_the_estimate_and_nests(cells: tuple[int, int, int]) -> None:
    b, c, rest = cells
    n = b + c + rest
    low, high = paired.tango_interval(b, c, n)
    assert -1 <= low <= (b - c) / n <= high <= 1
    assert paired.tango_interval(c, b, n) == pytest.approx((-high, -low), abs=1e-12)
    inner = paired.tango_interval(b, c, n, 0.90)
    assert low <= inner[0]
    assert inner[1] <= high


@pytest.mark.parametrize(("only_a", "only_b", "n"), [(0.03, 0.02, 1000), (0.10, 0.10, 200), (0.005, 0.01, 2000)])
def test_tango_covers_the_true_difference_as_often_as_it_says(only_a: float, only_b: float, n: int) -> None:
    draws = np.random.default_rng(11).multinomial(n, [only_a, only_b, 1 - only_a - only_b], size=4000)
    cells, times = np.unique(draws[:, :2], axis=0, return_counts=True)
    inside = [
        low <= only_a - only_b <= high for low, high in (paired.tango_interval(int(b), int(c), n) for b, c in cells)
    ]
    covered = np.average(inside, weights=times)
    # 4,000 draws leave a standard error of 0.35 points; the score interval itself wanders by a point at small counts.
    assert 0.938 <= covered <= 0.965


@pytest.mark.parametrize(("b", "c", "n"), [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_impossible_counts_are_refused(b: int, c: int, n: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        paired.tango_interval(b, c, n)


def test_items_needed_gives_the_power_it_promises() -> None:
    discordant, margin = 0.05, 0.02
    n = paired.items_needed(discordant, margin)
    draws = np.random.default_rng(5).multinomial(n, [discordant / 2, discordant / 2, 1 - discordant], size=2000)
    intervals = (paired.tango_interval(int(b), int(c), n, 0.90) for b, c, _ in draws)
    power = np.mean([-margin <= low and high <= margin for low, high in intervals])
    assert 0.77 <= power <= 0.83


def test_items_needed_wants_a_margin() -> None:
    with pytest.raises(ValueError, match="margin is 0"):
        paired.items_needed(0.1, 0)


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=60))
def test_the_ledger_counts_every_item_once(rows: list[tuple[int, int, int]]) -> None:
    labels, a, b = (np.array(column) for column in zip(*rows, strict=True))
    expected = dict.fromkeys(("both_right", "a_only", "b_only", "both_wrong_same", "both_wrong_different"), 0)
    for label, answer_a, answer_b in rows:
        if label in (answer_a, answer_b):
            cell = "both_right" if answer_a == answer_b else ("a_only" if answer_a == label else "b_only")
        else:
            cell = "both_wrong_same" if answer_a == answer_b else "both_wrong_different"
        expected[cell] += 1
    assert paired.ledger(labels, a, b) == expected


def test_the_block_of_a_small_case_by_hand() -> None:
    labels = np.array([0, 1, 2, 3])
    a = np.array([[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [0, 1, 3, 4, 5], [0, 3, 1, 2, 4]])
    b = np.array([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [2, 1, 3, 4, 5], [0, 1, 2, 4, 3]])
    block = paired.compare(predictions(labels, a), predictions(labels, b))
    assert block["ledger"] == {
        "both_right": 1, "a_only": 1, "b_only": 1, "both_wrong_same": 1, "both_wrong_different": 0
    }  # fmt: skip
    assert (block["items"], block["agreement"], block["discordant"]) == (4, 0.5, 0.5)
    assert (block["top1"]["a"], block["top1"]["b"], block["top1"]["difference"]) == (0.5, 0.5, 0.0)
    assert (block["top5"]["a"], block["top5"]["b"], block["top5"]["difference"]) == (0.75, 1.0, -0.25)
    assert block["top1"]["p_value"] == 1.0


def test_a_model_against_itself_never_flips() -> None:
    labels = np.arange(100) % 10
    one = predictions(labels, np.tile(np.arange(5), (100, 1)))
    block = paired.compare(one, one)
    assert (block["agreement"], block["discordant"], block["top1"]["difference"]) == (1.0, 0.0, 0.0)
    assert block["top1"]["ci95"][0] < 0 < block["top1"]["ci95"][1]
    assert block["self_noise"] == {"a": None, "b": None}, "recorded predictions have none"


def test_top5_is_null_when_fewer_classes_are_ranked() -> None:
    labels = np.array([0, 1])
    three, five = predictions(labels, np.tile(np.arange(3), (2, 1))), predictions(labels, np.tile(np.arange(5), (2, 1)))
    assert paired.compare(three, five)["top5"] is None


@pytest.mark.parametrize(
    ("labels", "digest", "sentence"),
    [
        (np.array([0, 1, 2]), "items", "A answered 2 items and B 3"),
        (np.array([0, 2]), "items", "Item 1 is labelled 1 for A and 2 for B"),
        (np.array([0, 1]), "other", "A answered the items items and B the items other"),
        (np.array([], dtype=int), "items", "no items"),
    ],
)
def test_other_items_are_refused(labels: np.ndarray, digest: str, sentence: str) -> None:
    one = predictions(np.array([0, 1]), np.tile(np.arange(5), (2, 1)))
    with pytest.raises(UsageError, match=sentence):
        paired.compare(one, predictions(labels, np.tile(np.arange(5), (len(labels), 1)), digest))


def test_50000_items_compare_in_a_tenth_of_a_second() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 1000, 50_000)
    sides = []
    for _ in range(2):
        classes = np.where(rng.random((50_000, 5)) < 0.5, labels[:, None], rng.integers(0, 1000, (50_000, 5)))
        sides.append(predictions(labels, classes))
    seconds = []
    for _ in itertools.repeat(None, 5):
        start = time.process_time()
        paired.compare(*sides)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.1


def test_rank_orders_by_score_and_ties_by_class() -> None:
    classes, scores = rank(np.array([[7, 3, 5, 1]]), np.array([[0.2, 0.4, 0.4, 0.1]]), 3)
    assert classes.tolist() == [[3, 5, 7]]
    assert scores.tolist() == [pytest.approx([0.4, 0.4, 0.2])]
