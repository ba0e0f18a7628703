"""A vetting as Markdown, fit for a pull request."""

from __future__ import annotations

import re
from typing import Any

from app.domain import sentences
from app.domain.policies import Policy
from app.domain.states import State

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#&$])")


def markdown(value: dict[str, Any]) -> str:
    """Return a vetting, in the JSON of the API, as a heading, the reason, a table of criteria, and lists."""
    title = (value["verdict"] or value["state"]).replace("_", " ")
    on = f", on data set {_code(value['dataset'])}" if value["dataset"] else ""
    candidate, reference = _code(value["candidate"]["ref"]), _code(value["reference"]["ref"])
    policy = _text(sentences.policy(Policy.from_json(value["policy"])))
    parts = [
        f"### Vetting: {title}",
        f"{candidate} in place of {reference}, under {policy}{on}.",
        _text(value["reason"] or (value["error"] or {}).get("message") or _undecided(value["state"])),
    ]
    if value["checks"]:
        rows = [
            f"| {check['criterion']} | {check['tier']} | {_verdict(check)} | {_cell(check)} |"
            for check in value["checks"]
        ]
        parts.append("\n".join(["| criterion | tier | verdict | numbers |", "| --- | --- | --- | --- |", *rows]))
    for name, lines, bullet in (
        ("What would decide, the cheapest first:", value["needed"], "1."),
        ("For information:", others(value), "-"),
    ):
        if lines:
            parts.append("\n".join([f"**{name}**", "", *(f"{bullet} {_text(line)}" for line in lines)]))
    parts.append(f"<sub>vetting {value['id']}, comparison {value['comparison_id']}</sub>")
    return "\n\n".join(parts) + "\n"


def _undecided(state: str) -> str:
    return "It was cancelled, so there is no decision." if state == State.CANCELLED else "There is no decision yet."


def _verdict(check: dict[str, Any]) -> str:
    words = check["verdict"].replace("_", " ")
    decides = check["tier"] == "critical" and check["verdict"] != "inside"
    return f"**{words}**" if decides else words


def _cell(check: dict[str, Any]) -> str:
    return "<br>".join(_text(line) for line in numbers(check))


def numbers(check: dict[str, Any]) -> list[str]:
    """Return what a check says, each of its numbers as one line."""
    said: str = check["said"].removeprefix(f"{check['criterion']}: ")
    return said.split(sentences.BETWEEN) if len(check["numbers"]) > 1 else [said]


def others(value: dict[str, Any]) -> list[str]:
    """Return what is told for information and does not stand in the table."""
    said = {check["said"] for check in value["checks"]}
    return [line for line in value["advisories"] if line not in said]


def _text(value: str) -> str:
    """Return words as Markdown that shows them as they are, in a cell of a table too."""
    return " ".join(_SPECIAL.sub(r"\\\1", value).split())


def _code(value: str) -> str:
    """Return words as code."""
    fence = "`" * (max((len(run) for run in re.findall("`+", value)), default=0) + 1)
    pad = " " if "`" in value else ""
    return f"{fence}{pad}{' '.join(value.split())}{pad}{fence}"
