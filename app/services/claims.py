"""What zoos claim of models of one name, beside what was measured here."""

from __future__ import annotations

import difflib
from itertools import combinations
from typing import TYPE_CHECKING, Any

from app.db import listings, predictions
from app.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from app.db.tables import Listing

ACCURACIES = ("top1", "top5")
"""Metrics whose claims are compared: fractions of items."""


def of_architecture(session: Session, architecture: str) -> dict[str, Any]:
    """Return every claim about an architecture key, with what was measured, and claim against claim across zoos.

    ``listings`` are those that claim an accuracy or were measured; ``claimed`` maps a metric to value and source,
    ``measured`` holds the latest predictions on each data set. ``differences`` are pairs of claims of one metric in
    different zoos, the largest first. Raises NotFoundError for a key that no listing has.
    """
    found = listings.of_architecture(session, architecture)
    if not found:
        near = difflib.get_close_matches(architecture, listings.architectures(session), n=3, cutoff=0.5)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise NotFoundError(
            f"No listing has the architecture key {architecture!r}.{hint} `zooaudit models` lists them.",
            slug="unknown-architecture",
        )
    measured = predictions.latest(session, [listing.ref for listing in found])
    shown = [_listing(listing, measured.get(listing.ref, ())) for listing in found]
    return {
        "architecture": architecture,
        "listings": [each for each in shown if each["claimed"] or each["measured"]],
        "differences": _differences(shown),
    }


def _listing(listing: Listing, measured: Iterable[dict[str, Any]]) -> dict[str, Any]:
    claimed = {
        claim["metric"]: {"value": claim["value"], "source": claim["source"]}
        for claim in listing.claims
        if claim["metric"] in ACCURACIES
    }
    return {
        "ref": listing.ref,
        "zoo": listing.zoo,
        "claimed": claimed,
        "measured": [
            row | {f"{metric}_minus_claim": _minus(row[metric], claimed.get(metric)) for metric in ACCURACIES}
            for row in measured
        ],
    }


def _minus(value: float | None, claim: dict[str, Any] | None) -> float | None:
    return None if value is None or claim is None else value - claim["value"]


def _differences(shown: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [
        {
            "metric": metric,
            "a_ref": a["ref"],
            "b_ref": b["ref"],
            "a": a["claimed"][metric]["value"],
            "b": b["claimed"][metric]["value"],
            "effect": a["claimed"][metric]["value"] - b["claimed"][metric]["value"],
        }
        for metric in ACCURACIES
        for a, b in combinations([each for each in shown if metric in each["claimed"]], 2)
        if a["zoo"] != b["zoo"]
    ]
    return sorted(found, key=lambda item: -abs(item["effect"]))
