"""What people read of drift in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from app.render import count, signed_per_cent
from app.terminal import SIDES, empty_table, word

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

_DIGEST = 12
"""Characters of a SHA-256 that are shown."""

_COUNTED = "structure"
"""The one metric whose effect is a number of places, and no fraction."""

_NO_CHANGE = ("findings_unchanged", "findings_incomparable")


def drift(value: dict[str, Any]) -> RenderableType:
    """Return a drift report as tables, one for each kind of change that there is."""
    head = Text.assemble(
        ("Drift ", "bold"),
        f"of audit {value['audit']['id']} ({value['audit']['created_at'][:16]})\n"
        f"since audit {value['against']['id']} ({value['against']['created_at'][:16]}): ",
        (_said(value), "" if value["drifted"] else "green"),
    )
    parts: list[RenderableType] = [head]
    for table in (_listings(value), _artifacts(value), _pairs(value), _moved(value), *_alone(value)):
        parts += ["", table] if table is not None else []
    parts += [Text(line, style="dim") for line in _notes(value)]
    return Group(*parts)


def _said(value: dict[str, Any]) -> str:
    """Return the numbers of changes, the word of each kind said once: ``listings 1 new, 2 gone``."""
    kinds: dict[str, list[str]] = {}
    for name, number in value["summary"].items():
        if number and name not in _NO_CHANGE:
            kind, _, how = name.partition("_")
            kinds.setdefault(kind, []).append(f"{number} {how}")
    return "; ".join(f"{kind} {', '.join(numbers)}" for kind, numbers in kinds.items()) or "nothing changed"


def _notes(value: dict[str, Any]) -> Iterable[str]:
    yield f"{value['summary']['findings_unchanged']} findings unchanged"
    for each in value["findings"]["incomparable"]:
        yield f"{each['findings']} findings of {each['dimension']} cannot be compared: {each['because']}"
    if not value["listings_kept"]:
        yield "what was listed was not kept by both audits: only listings that were compared are told of"


def _listings(value: dict[str, Any]) -> RenderableType | None:
    found = value["listings"]
    rows = [("new", ref, "") for ref in found["new"]] + [("gone", ref, "") for ref in found["gone"]]
    rows += [
        ("changed", each["ref"], ", ".join(_field(field) for field in each["fields"])) for each in found["changed"]
    ]
    return _table("Listings", ("", "listing", "what"), rows)


def _field(change: dict[str, Any]) -> str:
    short = all(not isinstance(change[side], dict | list) for side in ("before", "after"))
    return f"{change['field']}: {change['before']} → {change['after']}" if short else str(change["field"])


def _artifacts(value: dict[str, Any]) -> RenderableType | None:
    rows = [(each["ref"], each["before"][:_DIGEST], each["after"][:_DIGEST]) for each in value["artifacts"]]
    return _table("Other bytes behind the same name (SHA-256)", ("listing", "before", "after"), rows)


def _pairs(value: dict[str, Any]) -> RenderableType | None:
    rows = [(_sides(each), word(each["before"]), word(each["after"])) for each in value["pairs"]]
    return _table("Verdicts", (SIDES, "before", "after"), rows)


def _moved(value: dict[str, Any]) -> RenderableType | None:
    rows = [
        (_sides(each), each["metric"], *(_judged(each, each[side]) for side in ("before", "after")), _why(each))
        for each in value["findings"]["moved"]
    ]
    return _table("Findings that moved", (SIDES, "metric", "before", "after", "what moved"), rows)


def _why(value: dict[str, Any]) -> str:
    return ", ".join(value["why"])


def _alone(value: dict[str, Any]) -> Iterable[RenderableType | None]:
    for name in ("appeared", "vanished"):
        rows = [(_sides(each), each["metric"], _judged(each, each), each["lacks"]) for each in value["findings"][name]]
        yield _table(f"Findings that {name}", (SIDES, "metric", "verdict", "the other audit lacks the"), rows)


def _sides(value: dict[str, Any]) -> str:
    return f"{value['a_ref']}\n{value['b_ref']}"


def _judged(identity: dict[str, Any], value: dict[str, Any]) -> Text:
    """Return a verdict with its effect and the 95 % interval of that."""
    show = count if identity["metric"] == _COUNTED else signed_per_cent
    effect, ends = value["effect"], value["ci95"] or ()
    if isinstance(effect, dict | None) or any(isinstance(end, dict | None) for end in ends):
        return word(value["verdict"])
    low_to_high = f" ({' … '.join(map(show, ends))})" if ends and ends[0] != ends[1] else ""
    return Text.assemble(word(value["verdict"]), f"\n{show(effect)}{low_to_high}")


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> RenderableType | None:
    if not rows:
        return None
    table = empty_table(f"{title} ({len(rows)})", *columns)
    for row in rows:
        table.add_row(*row)
    return table
