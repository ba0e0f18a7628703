"""How often a verdict is wrong, simulated: the ledger is drawn, the project's own code judges it.

A verdict may be wrong in 5 % of the pairs. ``DRAWS`` pairs of which exactly 5 % are wrong show more than ``ALLOWED``
(6.6 %) in one simulation of a thousand; if 8 % are, they do in 99 of a hundred. Where the probabilities of all ledgers
can be added up (1,000 items with up to 10 % discordant, 10,000 with up to 1 %), the rates are: ``equivalent`` at the
margin at most 4.9 %, ``different`` at zero at most 1.4 % under a margin of 0.5 points and 5.2 % under none (1,000
items, 2 % discordant): over discrete counts the score interval keeps its level on average, not for each.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from app.domain.policies import Policy
from app.domain.verdicts import judge_accuracy
from workers.engine.accuracy import paired
from workers.engine.accuracy.predictions import Predictions

DRAWS = 2000
MARGIN = 0.005
ITEMS = (1_000, 10_000, 50_000)
DISCORDANT = (0.006, 0.03, 0.15)
ALLOWED = stats.binom.ppf(0.999, DRAWS, 0.05) / DRAWS
ENOUGH = stats.binom.ppf(0.001, DRAWS, 0.95) / DRAWS

each_size = pytest.mark.parametrize("n", ITEMS)
each_discordance = pytest.mark.parametrize("discordant", DISCORDANT)


def judged(b: int, c: int, n: int, *margins: float) -> list[dict]:
    measured = {"top1": paired.difference(b, c, n), "discordant": (b + c) / n}
    return [judge_accuracy(measured, Policy("simulated", accuracy_margin=margin)) for margin in margins]


def rates(n: int, discordant: float, difference: float, *margins: float) -> list[Counter[str]]:
    """Return, under each margin, the share of each verdict, and of the 95 % intervals that hold the true difference.

    ``discordant`` items of all are right in one model only; A is better by ``difference`` in every other pair, and B in
    the rest. The latter share is ``covered``.
    """
    only = np.array([discordant + difference, discordant - difference]) / 2
    draws = np.random.default_rng([n, round(1e6 * discordant)]).multinomial(n, [*only, 1 - discordant], size=DRAWS)
    found = [Counter[str]() for _ in margins]
    for sign, ledgers in ((1, draws[::2, :2]), (-1, draws[1::2, 1::-1])):
        for (b, c), times in zip(*np.unique(ledgers, axis=0, return_counts=True), strict=True):
            for counter, answer in zip(found, judged(int(b), int(c), n, *margins), strict=True):
                low, high = answer["top1"]["ci95"]
                counter[answer["verdict"]] += times / DRAWS
                counter["covered"] += times / DRAWS * (low <= sign * difference <= high)
    return found


@each_size
@each_discordance
def test_models_whose_difference_is_the_margin_are_rarely_called_equivalent_or_different(n, discordant):
    (found,) = rates(n, discordant, MARGIN, MARGIN)
    assert found["equivalent"] <= ALLOWED
    assert found["different"] <= ALLOWED
    assert found["covered"] >= ENOUGH


@each_size
@each_discordance
def test_equally_good_models_are_rarely_called_different(n, discordant):
    for found in rates(n, discordant, 0.0, MARGIN, 0.0):
        assert found["different"] <= ALLOWED
        assert found["covered"] >= ENOUGH


def test_where_there_are_items_enough_the_verdicts_are_given():
    enough = paired.items_needed(0.15, MARGIN)
    (equal,), (apart,) = rates(enough, 0.15, 0.0, MARGIN), rates(50_000, 0.15, 0.0125, MARGIN)
    assert equal["equivalent"] == pytest.approx(0.8, abs=0.03)
    assert apart["different"] > 0.95


TANGO = paired.tango_interval


def too_narrow(b, c, n, level=0.95):
    return TANGO(b, c, n, 1 - 2 * (1 - level))


def upper_end_missing(b, c, n, level=0.95):
    return TANGO(b, c, n, level)[0], (b - c) / n


@pytest.mark.parametrize("wrong", [too_narrow, upper_end_missing])
def test_a_wrong_interval_would_be_found(wrong, monkeypatch):
    monkeypatch.setattr(paired, "tango_interval", wrong)
    (apart,), (equal,) = rates(10_000, 0.03, MARGIN, MARGIN), rates(10_000, 0.03, 0.0, 0.0)
    assert apart["equivalent"] > ALLOWED
    assert equal["different"] > ALLOWED
    assert equal["covered"] < ENOUGH


@each_size
def test_what_is_judged_from_counts_is_what_a_comparison_of_predictions_gets(n):
    random = np.random.default_rng(n)
    # Right and best classes of the five cells: both right, only A, only B, both wrong alike, both wrong differently.
    cells = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [0, 1, 2]], dtype=np.int32)
    for counts in random.multinomial(n, [0.65, 0.045, 0.05, 0.155, 0.1], size=5):
        labels, a, b = random.permutation(np.repeat(cells, counts, axis=0)).T
        scores = np.ones((n, 1), dtype=np.float32)
        sides = [Predictions(labels, top1[:, None], scores, "items") for top1 in (a, b)]
        whole = judge_accuracy(paired.compare(*sides), Policy("simulated", accuracy_margin=MARGIN))
        assert list(whole["ledger"].values()) == counts.tolist()
        (alone,) = judged(int(counts[1]), int(counts[2]), n, MARGIN)
        assert whole["top1"] | alone["top1"] == whole["top1"]
        assert {name: whole[name] for name in ("verdict", "items_needed")} == {
            name: alone[name] for name in ("verdict", "items_needed")
        }
