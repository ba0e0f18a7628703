"""Input contracts for people: the steps of one, the differences of two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from app.terminal import empty_table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def contract(value: dict[str, Any]) -> RenderableType:
    """Return a contract as a table of its steps, in order."""
    table = empty_table(f"Input of {value['ref']}", "step", "what is done")
    for step in value["steps"]:
        table.add_row(step["step"], step["what"])
    return Group(table, Text(f"read from {value['source']}", style="dim"))


def differences(block: dict[str, Any]) -> Table:
    """Return the fields in which two contracts differ."""
    table = empty_table("Input contract", "field", "A", "B")
    for each in block["differences"]:
        table.add_row(each["field"], _value(each["a"]), _value(each["b"]))
    return table


def _value(value: object) -> str:
    """Return a field's value; numbers as short as they can be told apart."""
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
