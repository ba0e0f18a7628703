"""Many tests at once: what is left of their evidence, and which models it tells apart. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number, in their order.

    Those at most q are the discoveries of which, on average, at most a share q is false. Source: Benjamini & Hochberg,
    Journal of the Royal Statistical Society B 57 (1995); in the step-up form of Yekutieli & Benjamini (1999).
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index], reverse=True)
    found = [0.0] * len(p_values)
    smallest = 1.0
    for place, index in enumerate(order):
        rank = len(p_values) - place
        smallest = min(smallest, p_values[index] * len(p_values) / rank)
        found[index] = smallest
    return found


def indistinguishable(names: Sequence[str], told_apart: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the largest groups of which no two members are told apart, each in the order of ``names``.

    A name may be in several groups: A like B and B like C does not make A like C. The groups are ordered by their first
    members. Source: maximal cliques, Bron & Kerbosch, Communications of the ACM 16 (1973), with pivots.
    """
    apart = {frozenset(pair) for pair in told_apart}
    alike = {
        name: {other for other in names if other != name and frozenset((name, other)) not in apart} for name in names
    }
    groups: list[set[str]] = []

    def grow(group: set[str], candidates: set[str], seen: set[str]) -> None:
        if not candidates and not seen:
            groups.append(group)
            return
        pivot = max(candidates | seen, key=lambda name: len(alike[name] & candidates))
        for name in sorted(candidates - alike[pivot]):
            grow(group | {name}, candidates & alike[name], seen & alike[name])
            candidates = candidates - {name}
            seen = seen | {name}

    if names:
        grow(set(), set(names), set())
    place = {name: number for number, name in enumerate(names)}
    ordered = [sorted(group, key=lambda name: place[name]) for group in groups]
    return sorted(ordered, key=lambda group: [place[name] for name in group])
