"""A vetting as a person reads it in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from app import summary
from app.terminal import empty_table, word

if TYPE_CHECKING:
    from rich.console import RenderableType


def vetting(value: dict[str, Any]) -> Group:
    """Return a vetting, in the JSON of the API: the decision, its reason, and a table of the policy's criteria."""
    title = Text.assemble(
        (value["candidate"]["ref"], "bold"), " in place of ", (value["reference"]["ref"], "bold"), ": "
    )
    table = empty_table("", "criterion", "tier", "verdict", "numbers")
    for check in value["checks"]:
        said = Text("\n".join(summary.numbers(check)))
        table.add_row(check["criterion"], check["tier"], word(check["verdict"]), said)
    parts: list[RenderableType] = [title + word(value["verdict"]), Text(value["reason"]), "", table]
    for name, lines in (("would decide", value["needed"]), ("for information", summary.others(value))):
        parts += [Text.assemble((f"{name}: ", "yellow"), line) for line in lines]
    return Group(*parts, Text(f"comparison {value['comparison_id']}", style="dim"))
