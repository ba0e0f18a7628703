"""The picture of two aligned graphs: a standalone SVG without scripts, for the screen and for print."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import igraph

from workers.engine.graph.view import boxes
from workers.engine.graph.view.boxes import BOX, LINE, LOOKS, Box
from workers.engine.graph.view.joint import MOST_PARTS
from workers.engine.graph.view.layout import layout
from workers.engine.graph.view.words import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from workers.engine.graph.view.joint import Sheet
    from workers.engine.graph.view.layout import Layout

_LANE = 12.0
_GAP = 12.0
_BETWEEN = 26.0
_MARGIN = 20.0
_GUTTER = 64.0
_LEAST_SIDE = 300.0
_HEAD = 92.0
_LONGEST_REF = 44

_STYLE = """
.za text { font-family: Helvetica, Arial, 'Liberation Sans', sans-serif; font-size: 11px; fill: #111; }
.za .h { font-size: 15px; font-weight: bold; } .za .b { font-weight: bold; } .za .s { fill: #555; }
.za .e { fill: none; stroke: #777; stroke-width: 1.3; marker-end: url(#za-tip); }
.za .r { stroke: #b33c00; stroke-width: 2.6; }
.za .g { fill: none; stroke: #bbb; stroke-dasharray: 3 4; } .za .row { stroke: #ccc; stroke-dasharray: 1 5; }
"""

_TIP = (
    '<defs><marker id="za-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="#777"/></marker></defs>'
)


def write(path: Path, sheet: Sheet, answer: dict[str, Any], a_ref: str, b_ref: str) -> str | None:
    """Draw a view and its answer's verdict and differences to an SVG file.

    Both graphs stand side by side, what is aligned at the same height. Returns None, or the reason why there is no
    picture: a view of more than ``MOST_PARTS`` parts.
    """
    if len(sheet.parts) > MOST_PARTS:
        return (
            f"even with its equal layers folded the picture would have {len(sheet.parts)} parts; up to {MOST_PARTS} "
            "are drawn; the list of differences is complete"
        )
    try:
        placed = layout(sheet, BOX, _LANE, _GAP)
    except igraph.InternalError as error:
        return f"the layout library gave up on this graph ({error}); the list of differences is complete"
    path.write_text(_Drawing(sheet, placed, answer).svg(a_ref, b_ref), encoding="utf-8")
    return None


@dataclass(frozen=True)
class _Rows:
    """Top and height of each layer, in pixels, and the height of all."""

    tops: tuple[float, ...]
    heights: tuple[float, ...]
    end: float


class _Drawing:
    def __init__(self, sheet: Sheet, placed: Layout, answer: dict[str, Any]) -> None:
        self.sheet, self.placed, self.answer = sheet, placed, answer
        differences: list[dict[str, Any]] = answer["differences"]
        self.contents = [tuple(boxes.box(part, side, differences) for side in "ab") for part in sheet.parts]
        self.width = max(placed.width, _LEAST_SIDE)
        self.rows = self._rows()
        self.rewired = {
            index
            for index, part in enumerate(sheet.parts)
            if any(differences[item]["kind"] == "rewired" for item in part.differences)
        }

    def _rows(self) -> _Rows:
        heights = [0.0] * self.placed.layers
        for (_, layer), pair in zip(self.placed.parts, self.contents, strict=True):
            heights[layer] = max(heights[layer], *(box.height for box in pair if box is not None))
        tops, top = [], _HEAD
        for height in heights:
            tops.append(top)
            top += height + _BETWEEN
        return _Rows(tuple(tops), tuple(heights), top)

    def svg(self, a_ref: str, b_ref: str) -> str:
        """Return the whole document."""
        width = 2 * self.width + _GUTTER + 2 * _MARGIN
        height = self.rows.end
        lefts = (_MARGIN, _MARGIN + self.width + _GUTTER)
        verdict = f"architecture: {self.answer['verdict'].replace('_', ' ')}"
        area = f"{width:.0f} {height:.0f}"
        size = f'width="{width:.0f}" height="{height:.0f}"'
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="za" role="img" {size} viewBox="0 0 {area}">',
            f"<title>{_text(a_ref)} beside {_text(b_ref)}, {verdict}</title>",
            f"<style>{_STYLE}</style>",
            _TIP,
            f'<rect {size} fill="#fff"/>',
            *self._head(lefts, (a_ref, b_ref), verdict),
        ]
        parts += [self._row_mark(layer) for layer in range(self.placed.layers)]
        for number, (side, left) in enumerate(zip("ab", lefts, strict=True)):
            parts.append(f'<g transform="translate({left:.1f} 0)">')
            parts += [self._edge(edge) for edge, sides in self.sheet.edges.items() if side in sides]
            for index, pair in enumerate(self.contents):
                x, layer = self.placed.parts[index]
                both = max(box.height for box in pair if box is not None)
                parts.append(_drawn(pair[number], x - BOX / 2, self.rows.tops[layer], both, side))
            parts.append("</g>")
        return "\n".join([*filter(None, parts), "</svg>\n"])

    def _head(self, lefts: Sequence[float], refs: Sequence[str], verdict: str) -> list[str]:
        parts = []
        for side, left, ref in zip("ab", lefts, refs, strict=True):
            totals = self.answer[side]
            counted = f"{totals['nodes']:,} layers, {totals['parameters']:,} parameters"
            parts.append(f'<text class="h" x="{left}" y="28">{side.upper()}  {_text(_short(ref, _LONGEST_REF))}</text>')
            parts.append(f'<text class="s" x="{left}" y="44">{counted}</text>')
        differences = self.answer["differences"]
        parts.append(f'<text class="b" x="{lefts[0]}" y="68">{verdict}</text>')
        x = lefts[0] + 5.8 * len(verdict) + 18
        for severity in LOOKS:
            count = sum(item["severity"] == severity for item in differences)
            parts.append(boxes.symbol(severity, x, 64))
            parts.append(f'<text x="{x + 10}" y="68">{severity} ({count})</text>')
            x += 6.2 * (len(severity) + 4) + 22
        return parts

    def _row_mark(self, layer: int) -> str:
        """Join the two sides of a layer across the gutter: a line, and whether all that stands there is equal."""
        here = [index for index, (_, at) in enumerate(self.placed.parts) if at == layer]
        middles = [self.placed.parts[index][0] for index in here]
        missing = {side for index in here for side in (0, 1) if self.contents[index][side] is None}
        differs = missing or any(self.sheet.parts[index].differences for index in here)
        alone = len(here) == 1 and len(missing) == 1
        sign = ("+" if 0 in missing else "−") if alone else "≠" if differs else "="
        y = self.rows.tops[layer] + 14
        start = _MARGIN + max(middles) + BOX / 2 + 4
        end = _MARGIN + self.width + _GUTTER + min(middles) - BOX / 2 - 4
        middle = _MARGIN + self.width + _GUTTER / 2
        return (
            f'<line class="row" x1="{start:.1f}" y1="{y}" x2="{end:.1f}" y2="{y}"/>'
            f'<circle cx="{middle:.1f}" cy="{y}" r="9" fill="#fff"/>'
            f'<text class="b" x="{middle:.1f}" y="{y + 4}" text-anchor="middle">{sign}</text>'
        )

    def _edge(self, edge: tuple[int, int]) -> str:
        source, reader = (self.placed.parts[end] for end in edge)
        style = "e r" if edge[1] in self.rewired and len(self.sheet.edges[edge]) == 1 else "e"
        points = [source, *self.placed.edges.get(edge, ()), reader]
        tops, heights = self.rows.tops, self.rows.heights
        x, layer = source
        steps = [f"M{x:.1f} {tops[layer] + self._height(edge[0]):.1f}"]
        if edge not in self.placed.edges:  # it leads back up: around the boxes, by the right edge
            y0, y1 = tops[layer] + heights[layer], tops[reader[1]]
            steps.append(f"C{self.width:.1f} {y0 + 40:.1f} {self.width:.1f} {y1 - 40:.1f} {reader[0]:.1f} {y1:.1f}")
            return f'<path class="{style}" d="{"".join(steps)}"/>'
        steps.append(f"V{tops[layer] + heights[layer]:.1f}")
        for (x0, above), (x1, below) in pairwise(points):
            y0, y1 = tops[above] + heights[above], tops[below]
            middle = (y0 + y1) / 2
            curve = f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"
            steps.append(f"V{y1:.1f}" if x0 == x1 else curve)
            if (x1, below) != reader:
                steps.append(f"V{y1 + heights[below]:.1f}")
        return f'<path class="{style}" d="{"".join(steps)}"/>'

    def _height(self, index: int) -> float:
        return max(box.height for box in self.contents[index] if box is not None)


def _drawn(box: Box | None, x: float, y: float, height: float, side: str) -> str:
    """Return one box at its place, or the empty place of what only the other side has."""
    frame = f'x="{x:.1f}" y="{y:.1f}" width="{BOX:.0f}" height="{height:.1f}" rx="4"'
    if box is None:
        return (
            f'<rect class="g" {frame}/><text class="s" x="{x + BOX / 2:.1f}" y="{y + height / 2 + 4:.1f}" '
            f'text-anchor="middle">not in {side.upper()}</text>'
        )
    behind = ""
    if box.folded:
        behind = (
            f'<rect x="{x + 4:.1f}" y="{y + 4:.1f}" width="{BOX:.0f}" height="{height:.1f}" rx="4" fill="#fff" '
            f'stroke="#999"/>'
        )
    parts = [f"<g><title>{_text(box.tip)}</title>{behind}<rect {frame} {boxes.frame(box.severity)}/>"]
    for row, line in enumerate(box.lines):
        at = y + 2 + (row + 1) * LINE - 3
        indent = 8.0
        if line.severity is not None:
            if line.begins:
                parts.append(boxes.symbol(line.severity, x + 13, at - 4))
            indent = 22.0
        parts.append(f'<text class="{line.style}" x="{x + indent:.1f}" y="{at:.1f}">{_text(line.text)}</text>')
        if line.right:
            parts.append(
                f'<text class="s" x="{x + BOX - 8:.1f}" y="{at:.1f}" text-anchor="end">{_text(line.right)}</text>'
            )
    return "".join([*parts, "</g>"])


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"…{text[-most + 1 :]}"


def _text(text: str) -> str:
    return escape(printable(text))
