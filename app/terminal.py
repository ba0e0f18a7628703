"""How tables and verdicts look in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

SIDES = "A, B"
WHAT = "what differs, A → B"

_COLOURS = {
    "interchangeable": "green",
    "identical": "green",
    "same_function": "green",
    "equivalent": "green",
    "same": "green",
    "inside": "green",
    "not_interchangeable": "red",
    "different": "red",
    "a_faster": "red",
    "b_faster": "red",
    "outside": "red",
    "structural": "red",
    "interface": "yellow",
    "numeric": "yellow",
    "inconclusive": "yellow",
    "failed": "magenta",
    "pass": "green",
    "fail": "red",
    "not_enough_evidence": "yellow",
    "not_measured": "yellow",
}


def word(value: str | None) -> Text:
    """Return a verdict or severity in its colour."""
    return Text("-" if value is None else value.replace("_", " "), style=_COLOURS.get(value or "", ""))


def empty_table(title: str, *columns: str) -> Table:
    """Return an empty table; a column's name ends in ``>r`` where numbers are aligned to the right."""
    found = Table(title=title or None, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        name, _, right = column.partition(">")
        # References stay whole: a person copies them into the next command.
        found.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=name == SIDES)
        if name == WHAT:
            found.columns[-1].min_width = 28
    return found


def milliseconds(value: float | None) -> str:
    """Return milliseconds with three significant digits."""
    return "-" if value is None else f"{value:#.3g}".rstrip(".")


def interval(value: Sequence[float] | None, shape: str = "{:.3f}") -> str:
    """Return an interval as ``low … high``."""
    return "-" if value is None else " … ".join(shape.format(end) for end in value)


def both(a: str, b: str) -> str:
    """Put what belongs to A above what belongs to B, which leaves a narrow terminal room for the rest."""
    return f"{a}\n{b}"
