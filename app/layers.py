"""The differences of two architectures, and the aligned layers around them, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from app.terminal import empty_table, word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

MOST_DIFFERENCES = 20
"""Lines of the difference list before a person is sent to the JSON."""

MOST_LAYERS = 40
"""Rows of aligned layers before a person is sent to the picture."""

_LONGEST_NAME = 22

_MARKS = {"equal": "=", "different": "≠", "only_a": "−", "only_b": "+", "folded": "…"}


def differences(block: dict[str, Any]) -> list[RenderableType]:
    """Return the list of differences, numbered from 1, the worst first."""
    found = block["differences"]
    if not found:
        return []
    title = f"{len(found)} difference{'s' if len(found) > 1 else ''}"
    lines = empty_table(title, "#>r", "what, A → B", "places>r", "first at", "")
    lines.columns[-1].no_wrap = True
    for number, item in enumerate(found[:MOST_DIFFERENCES], 1):
        lines.add_row(
            str(number),
            Text(listed(item)),
            str(item.get("repeats", 1)),
            Text(first_place(item)),
            word(item["severity"]),
        )
    parts: list[RenderableType] = [lines]
    if len(found) > MOST_DIFFERENCES:
        parts.append(Text(f"… and {len(found) - MOST_DIFFERENCES} more; --json has all.", style="dim"))
    return parts


def aligned(block: dict[str, Any]) -> list[RenderableType]:
    """Return the layers around the differences, A beside B; nothing where there is no difference."""
    view = block.get("aligned") or {"rows": []}
    rows = view["rows"]
    found = block["differences"]
    if not found or not rows:
        return []
    shown = empty_table("Aligned layers where they differ", "A", "", "B", "#, A → B")
    for row in rows[:MOST_LAYERS]:
        shown.add_row(_layer(row, "a"), _MARKS[row["kind"]], _layer(row, "b"), _notes(row, found))
    parts: list[RenderableType] = [shown]
    more = len(rows) - len(rows[:MOST_LAYERS]) + view["left_out"]
    if more:
        parts.append(Text(f"… and {more} rows more; --diagram draws them, --json lists them.", style="dim"))
    return parts


def _layer(row: dict[str, Any], side: str) -> Text:
    layer = row[side]
    if not layer:
        return Text("")
    if row["kind"] != "folded":
        return Text.assemble(layer["text"], "  ", (_named(layer["node"]), "dim"))
    layers = sum(layer.values())
    title = f"{layers} {'equal ' if row['equal'] == layers else ''}layers"
    if side == "b" and layer == row["a"]:
        return Text(title, style="dim")
    return Text(f"{title}: {', '.join(f'{count} {op}' for op, count in layer.items())}", style="dim")


def _notes(row: dict[str, Any], found: Sequence[dict[str, Any]]) -> Text:
    notes = []
    for entry in row["differences"]:
        item = found[entry["index"]]
        many = f"{entry['places']} × " if row["kind"] == "folded" else ""
        notes.append(Text(f"{entry['index'] + 1}: {many}{says(item)}", style=word(item["severity"]).style))
    return Text("\n").join(notes)


def says(item: dict[str, Any]) -> str:
    """Say one difference in a few words."""
    return item.get("text") or _in_words(item)


def listed(item: dict[str, Any]) -> str:
    """Say one difference where its layer is not shown beside it."""
    named = item["kind"] in ("attribute", "shape", "rewired") and item.get("text")
    return f"{item['a']['op']} {item['text']}" if named else says(item)


def first_place(item: dict[str, Any]) -> str:
    """Name the first layers of a difference, A's and B's."""
    return " / ".join(_named(item[side]["node"]) for side in ("a", "b") if item.get(side))


def _named(name: str) -> str:
    """Shorten a layer's name to its end, which tells it from its neighbours."""
    return printable(name if len(name) <= _LONGEST_NAME else f"…{name[-_LONGEST_NAME + 1 :]}")


def printable(text: str) -> str:
    """Replace control and format characters: names come from strangers' files."""
    return "".join(character if character.isprintable() else "�" for character in text)


def first_differences(differences: Sequence[dict[str, Any]], most: int = 3) -> list[str]:
    """Say the gravest differences in a few words, alike ones counted together."""
    counted: dict[str, int] = {}
    for severity in ("structural", "interface", "numeric", "cosmetic"):
        for item in differences:
            if item["severity"] == severity:
                words = _in_words(item)
                counted[words] = counted.get(words, 0) + item.get("repeats", 1)
    parts = [f"{number}× {words}" if number > 1 else words for words, number in list(counted.items())[:most]]
    if len(counted) > most:
        parts.append(f"and {len(counted) - most} more")
    return parts


def _in_words(item: dict[str, Any]) -> str:
    a, b = item.get("a"), item.get("b")
    if a and b:
        if a.get("op") != b.get("op"):
            return f"{a.get('op')} → {b.get('op')}"
        what = item.get("attribute") or item["kind"]
        return f"{a.get('op')} {what} {_brief(a.get('value'))} → {_brief(b.get('value'))}"
    side = a or b or {}
    return f"{side.get('op')} only in {'A' if a else 'B'}"


def _brief(value: Any) -> str:  # noqa: ANN401 - any JSON value
    # A list whose numbers are all the same, such as a square kernel, needs only one of them.
    if isinstance(value, list) and value and all(item == value[0] for item in value):
        return str(value[0])
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
