"""What people read of claims in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from app.render import per_cent, signed_per_cent
from app.terminal import empty_table

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST = 10
"""Pairs of claims that are shown, the largest first."""


def claims(found: dict[str, Any]) -> Group:
    """Return claims about an architecture key as tables: beside what was measured, and against each other."""
    listed = empty_table(
        f"Claims about {found['architecture']}",
        "model",
        "claimed top1>r",
        "claimed top5>r",
        "measured top1>r",
        "measured - claimed>r",
        "on",
    )
    for each in found["listings"]:
        for row in each["measured"] or [{}]:
            listed.add_row(
                each["ref"],
                *(per_cent(each["claimed"].get(metric, {}).get("value")) for metric in ("top1", "top5")),
                per_cent(row.get("top1")),
                signed_per_cent(row.get("top1_minus_claim")),
                _where(row),
            )
    parts: list[RenderableType] = [listed]
    differences = [item for item in found["differences"] if item["metric"] == "top1"]
    if differences:
        parts += ["", _between(differences)]
    return Group(*parts)


def _where(row: dict[str, Any]) -> str:
    if not row:
        return "-"
    return f"{row['dataset']}, {row['items']:,} items" + (", imported" if row["recorded"] else "")


def _between(differences: Sequence[dict[str, Any]]) -> RenderableType:
    shown = min(_MOST, len(differences))
    table = empty_table(
        f"Claim against claim: the {shown} largest of {len(differences)}", "A", "B", "A>r", "B>r", "A - B>r"
    )
    for item in differences[:_MOST]:
        table.add_row(
            item["a_ref"], item["b_ref"], per_cent(item["a"]), per_cent(item["b"]), signed_per_cent(item["effect"])
        )
    return table
