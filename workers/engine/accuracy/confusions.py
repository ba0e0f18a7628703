"""Right answers at the wrong class: labels that are shifted, classes that are exchanged. Pure functions of predictions.

A permutation of the classes is suspected when it turns a model's wrong answers into right ones, class by class. What
an honest model confuses goes one way, or is the smaller part of a class; a permutation takes most of a class away and
brings it back elsewhere.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_SHARE = 0.5
"""Share of a class's items that must be answered with one and the same other class for that class to count as moved."""

MOST_CLASSES = 2 / 3
"""Share of the classes that must be moved for a permutation of all: by one distance, or each to a place of its own."""

MANY_TIMES = 3
"""How many more answers must be right under a shift than without it; bad models may answer one class further often."""

CHANCE = 1e-3
"""Probability, over all pairs of classes, that a model which confuses two classes evenly shows such an exchange."""

MOST = 20
"""Classes that are listed."""

_PAIR = 2


def suspicions(
    labels: NDArray[np.integer[Any]], top1_a: NDArray[np.integer[Any]], top1_b: NDArray[np.integer[Any]]
) -> list[dict[str, Any]]:
    """Return the permutations that explain the wrong answers of A, of B, or of both.

    Args:
        labels: (n) right classes.
        top1_a: (n) best classes of A.
        top1_b: (n) best classes of B.

    Returns:
        For each: ``kind`` (``shifted labels``, ``swapped classes``, ``permuted classes``), ``side`` (``a``, ``b``, or
        ``both``: then the labels themselves are the likelier cause), ``shift`` (what is added to the label, or None),
        the number of ``moved`` classes, the first ``MOST`` of them as ``classes`` (``label`` and ``answered``), and the
        evidence by side: ``items`` of these classes, ``wrong`` ones, ``explained`` ones, right under the permutation.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for side, top1 in (("a", top1_a), ("b", top1_b)):
        for kind, shift, moved in _permutations(labels, top1):
            key = (kind, shift, () if kind == "shifted labels" else tuple(moved.items()))
            same = found.setdefault(
                key,
                {
                    "kind": kind,
                    "side": side,
                    "shift": shift,
                    "moved": len(moved),
                    "classes": [{"label": label, "answered": best} for label, best in list(moved.items())[:MOST]],
                    "evidence": {},
                },
            )
            same["side"] = side if same["side"] == side else "both"
            same["evidence"][side] = _evidence(labels, top1, moved)
    return list(found.values())


def _evidence(
    labels: NDArray[np.integer[Any]], top1: NDArray[np.integer[Any]], moved: dict[int, int]
) -> dict[str, int]:
    of_moved = np.isin(labels, list(moved))
    right, answers = labels[of_moved], top1[of_moved]
    explained = np.array([moved[int(label)] for label in right]) == answers
    return {
        "items": int(right.size),
        "wrong": int(np.count_nonzero(right != answers)),
        "explained": int(np.count_nonzero(explained)),
    }


def _permutations(
    labels: NDArray[np.integer[Any]], top1: NDArray[np.integer[Any]]
) -> list[tuple[str, int | None, dict[int, int]]]:
    """Return (kind, shift, {label: answered}) for what one model's answers suggest."""
    classes = int(max(labels.max(), top1.max())) + 1
    items = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[labels == top1], minlength=classes)
    # Only classes that are mostly answered wrong can have moved; for an honest model these are few.
    poor = (items > 0) & (right < items * LEAST_SHARE)
    rows = poor[labels]
    pairs, counts = np.unique(labels[rows].astype(np.int64) * (classes + 1) + top1[rows] + 1, return_counts=True)
    most: dict[int, tuple[int, int]] = {}
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        label, best = pair // (classes + 1), pair % (classes + 1) - 1
        if best != label and count > max(most.get(label, (0, 0))[1], right[label]):
            most[label] = (best, count)
    enough = max(MOST_CLASSES * int(np.count_nonzero(items)), _PAIR + 1)
    shift, number = Counter(best - label for label, (best, _) in most.items()).most_common(1)[0] if most else (0, 0)
    explained = int(np.count_nonzero(top1 - labels == shift))
    if number >= enough and explained >= MANY_TIMES * int(right.sum()):
        return [("shifted labels", shift, {label: best for label, (best, _) in most.items() if best - label == shift})]
    moved = {label: best for label, (best, count) in most.items() if count >= LEAST_SHARE * items[label]}
    taken = Counter(best for best, _ in most.values())
    alone = {label: best for label, best in moved.items() if taken[best] == 1}
    if len(alone) >= enough:
        return [("permuted classes", None, alone)]
    exchanged = [
        cycle
        for cycle in _cycles(moved)
        if _is_beyond_chance(sum(most[label][1] for label in cycle), sum(int(right[label]) for label in cycle), classes)
    ]
    inside = [label for cycle in exchanged for label in cycle]
    if inside and not _works_elsewhere(items, right, inside, sum(most[label][1] for label in inside)):
        return []
    kinds = {True: "swapped classes", False: "permuted classes"}
    return [(kinds[len(cycle) == _PAIR], None, {label: moved[label] for label in cycle}) for cycle in exchanged]


def _works_elsewhere(items: NDArray[Any], right: NDArray[Any], moved: list[int], explained: int) -> bool:
    """Whether a model is right on the classes that did not move, half as often at least as it is with the moved ones.

    A model that has collapsed, as one does on inverted pictures, may take two classes for each other by accident.
    """
    rest = int(items.sum() - items[moved].sum())
    share = explained / int(items[moved].sum())
    return rest == 0 or int(right.sum() - right[moved].sum()) / rest >= LEAST_SHARE * share


def _cycles(moved: dict[int, int]) -> list[list[int]]:
    """Return the closed ways through a map of classes, each from its smallest class."""
    found, seen = [], set[int]()
    for start in sorted(moved):
        way, at = [], start
        while at in moved and at not in seen:
            seen.add(at)
            way.append(at)
            at = moved[at]
        if way and at == start:
            found.append(way)
    return found


def _is_beyond_chance(exchanged: int, kept: int, classes: int) -> bool:
    """Whether more answers are exchanged than a model would show that takes the classes for each other evenly.

    Binomial(exchanged + kept, 1/2), over all pairs of classes (Bonferroni).
    """
    tail = float(special.bdtr(kept, exchanged + kept, 0.5))
    return tail * classes * (classes - 1) / _PAIR <= CHANCE
