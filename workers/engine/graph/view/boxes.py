"""What stands in the boxes of the picture, and how severities look: by shape, line and word as well as by colour."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.engine.graph.view.rows import operators
from workers.engine.graph.view.words import node_text, printable, shape_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.engine.graph.canonical import Node
    from workers.engine.graph.view.joint import Part

BOX = 224.0
"""Width of a box in pixels."""

LINE = 14.0
"""Height of a line of text in pixels."""

LOOKS = {
    "structural": ("#b33c00", "#fbe6da", "2.6", None, "M-4-4H4V4H-4z"),
    "interface": ("#0060a0", "#e0eef9", "2", "8 3", "M0-5.4L5.4 0L0 5.4L-5.4 0z"),
    "numeric": ("#7a6200", "#fdf4d0", "2", "2 3", "M0-5L5 4H-5z"),
    "cosmetic": ("#555", "#f1f1f1", "1.4", "1 3", "M-4-1.4H4V1.4H-4z"),
}
"""Line, fill, line width, dashes and symbol of each severity; the colours are told apart in every colour blindness
(after Okabe & Ito 2008) and, by their darkness, in print."""

_COLUMNS = 36
_BOLD_COLUMNS = 33
_NOTE_COLUMNS = 33
_MOST_NOTES = 6
_MOST_LINES = 3


@dataclass(frozen=True)
class Line:
    """A line of text; ``right`` stands at the other end. Lines of a difference have its severity."""

    text: str
    style: str = ""
    right: str = ""
    severity: str | None = None
    begins: bool = False
    """Whether the difference's symbol stands before this line."""


@dataclass(frozen=True)
class Box:
    """One side of a part. ``severity`` is that of its worst difference, ``tip`` all that was cut short."""

    lines: tuple[Line, ...]
    severity: str | None
    folded: bool
    tip: str

    @property
    def height(self) -> float:
        """Height in pixels."""
        return LINE * len(self.lines) + 8


def box(part: Part, side: str, differences: Sequence[dict[str, Any]]) -> Box | None:
    """Return what stands on one side of a part; None for an empty place. Differences are numbered from 1."""
    nodes = [node for slot in part.slots if (node := slot.a if side == "a" else slot.b) is not None]
    if not nodes:
        return None
    lines = _stretch(part, side, len(nodes)) if part.folded else _layer(nodes[0])
    here = sorted(part.differences)
    notes: list[Line] = []
    for index in here[:_MOST_NOTES]:
        many = f"{part.differences[index]} × " if part.folded else ""
        severity = differences[index]["severity"]
        text = f"{index + 1}: {many}{differences[index]['text']}"
        for number, piece in enumerate(_wrapped(text, _NOTE_COLUMNS)):
            notes.append(Line(piece, severity=severity, begins=not number))
    if len(here) > _MOST_NOTES:
        notes.append(Line(f"and {len(here) - _MOST_NOTES} differences more"))
    worst = differences[here[0]]["severity"] if here else None
    names = ", ".join(node.source for node in nodes[:_MOST_NOTES]) + (" …" if len(nodes) > _MOST_NOTES else "")
    tip = f"{node_text(nodes[0]) if len(nodes) == 1 else f'{len(nodes)} layers'}: {names}"
    tip = "; ".join([tip, *(f"{index + 1}: {differences[index]['text']}" for index in here)])
    return Box((*lines, *notes), worst, part.folded, tip)


def _layer(node: Node) -> list[Line]:
    lines = [Line(piece, "b") for piece in _wrapped(node_text(node), _BOLD_COLUMNS)]
    shape = shape_text(node.shape)
    room = max(8, _COLUMNS - len(shape) - 2)
    name = printable(node.source)
    lines.append(Line(name if len(name) <= room else f"…{name[-room + 1 :]}", "s", right=shape))
    return lines


def _stretch(part: Part, side: str, count: int) -> list[Line]:
    """Say how many layers are folded here, of which operators, and how many of them only this side has."""
    alone = sum((slot.b if side == "a" else slot.a) is None for slot in part.slots)
    title = f"{count} equal layers" if part.equal == count else f"{count} layers"
    if alone:
        title += f", {alone} of them only in {side.upper()}"
    counted = ", ".join(f"{number} {op}" for op, number in operators(part, side).items())
    return [
        *(Line(piece, "b") for piece in _wrapped(title, _BOLD_COLUMNS)),
        *(Line(piece, "s") for piece in _wrapped(counted, _COLUMNS)),
    ]


def _wrapped(text: str, columns: int) -> list[str]:
    return textwrap.wrap(text, columns, max_lines=_MOST_LINES, placeholder=" …") or [""]


def frame(severity: str | None) -> str:
    """Return the fill and stroke of a box."""
    if severity is None:
        return 'fill="#fff" stroke="#888"'
    line, fill, width, dashes, _ = LOOKS[severity]
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'fill="{fill}" stroke="{line}" stroke-width="{width}"{dashed}'


def symbol(severity: str, x: float, y: float) -> str:
    """Return the symbol of a severity around a point."""
    line, _, _, _, shape = LOOKS[severity]
    return f'<path d="{shape}" transform="translate({x:.1f} {y:.1f})" fill="{line}"/>'
