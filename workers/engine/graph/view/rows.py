"""The aligned layers around the differences as rows, A beside B."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from workers.engine.graph.view.joint import MOST_PARTS, Part
from workers.engine.graph.view.words import node_text, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.engine.graph.canonical import Node
    from workers.engine.graph.view.joint import Sheet

_MOST_ROWS = MOST_PARTS


def aligned(sheet: Sheet) -> dict[str, Any]:
    """Return ``{"rows", "most", "left_out"}``: at most ``most`` rows, ``left_out`` rows more were not kept.

    A row's ``kind`` is ``equal``, ``different``, ``only_a``, ``only_b`` or ``folded``, a stretch without or with minor
    differences. ``a`` and ``b`` are null or ``{"node", "op", "text", "shape"}``, in a folded row the layers of that
    side by operator. ``differences`` are ``{"index", "places"}``, the index counting from 0 in the difference list.
    ``equal`` says how many aligned layers of the row have no difference.
    """
    rows = [_row(part) for part in _merged(sheet.parts)]
    return {"rows": rows[:_MOST_ROWS], "most": _MOST_ROWS, "left_out": max(0, len(rows) - _MOST_ROWS)}


def _merged(parts: Sequence[Part]) -> list[Part]:
    """Join stretches that follow each other: side by side in a picture, in a list they are one."""
    found: list[Part] = []
    for part in parts:
        if found and part.folded and found[-1].folded:
            last = found.pop()
            found.append(Part(last.slots + part.slots, last.marks | part.marks, last.equal + part.equal))
        else:
            found.append(part)
    return found


def _row(part: Part) -> dict[str, Any]:
    differences = [{"index": index, "places": places} for index, places in sorted(part.differences.items())]
    row: dict[str, Any] = {"differences": differences, "equal": part.equal}
    if part.folded:
        return {"kind": "folded", "a": operators(part, "a"), "b": operators(part, "b")} | row
    (slot,) = part.slots
    kind = "only_b" if slot.a is None else "only_a" if slot.b is None else "different" if differences else "equal"
    return {"kind": kind, "a": _side(slot.a), "b": _side(slot.b)} | row


def operators(part: Part, side: str) -> dict[str, int]:
    """Count the layers of one side of a part by operator, the most frequent first."""
    nodes = [slot.a if side == "a" else slot.b for slot in part.slots]
    return dict(Counter(node.op for node in nodes if node is not None).most_common())


def _side(node: Node | None) -> dict[str, Any] | None:
    if node is None:
        return None
    return {"node": printable(node.source), "op": node.op, "text": node_text(node), "shape": list(node.shape)}
