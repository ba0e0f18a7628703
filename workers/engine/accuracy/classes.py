"""Which classes two models answer differently well, one test a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special, stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

FALSE_DISCOVERIES = 0.05
"""Share of the classes told apart that may be told apart by chance."""

MOST = 20
"""Classes that are listed, the strongest evidence first."""


def told_apart(
    labels: NDArray[np.integer[Any]], right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]
) -> dict[str, Any]:
    """Test each class for a difference of its accuracy; exact McNemar tests under Benjamini-Hochberg.

    Args:
        labels: (n) right classes.
        right_a: (n) whether A got an item right.
        right_b: (n) whether B did.

    Returns:
        ``tested`` classes (those with an item), the ``number`` told apart, and the first ``MOST`` of them as ``found``:
        class, items, accuracies ``a`` and ``b``, p_value and q_value.
    """
    present, place = np.unique(labels, return_inverse=True)
    items = np.bincount(place, minlength=len(present))
    correct = [np.bincount(place[right], minlength=len(present)) for right in (right_a, right_b)]
    a_only = np.bincount(place[right_a & ~right_b], minlength=len(present))
    b_only = np.bincount(place[right_b & ~right_a], minlength=len(present))
    discordant = a_only + b_only
    # Two-sided; the two tails overlap where both sides are alike.
    p_values = np.minimum(1.0, 2 * special.bdtr(np.minimum(a_only, b_only), discordant, 0.5))
    q_values = stats.false_discovery_control(p_values)
    order = np.lexsort((present, q_values, p_values))
    found = [index for index in order if q_values[index] <= FALSE_DISCOVERIES]
    return {
        "tested": len(present),
        "number": len(found),
        "found": [
            {
                "class": int(present[index]),
                "items": int(items[index]),
                "a": float(correct[0][index] / items[index]),
                "b": float(correct[1][index] / items[index]),
                "p_value": float(p_values[index]),
                "q_value": float(q_values[index]),
            }
            for index in found[:MOST]
        ],
    }
