"""Names of models to architecture keys, by the table and the rules of ``architectures.toml``."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources
from typing import Any


def architecture_key(zoo: str, name: str) -> str | None:
    """Return the key under which a zoo's model is matched with those of other zoos, or None when no rule names one.

    Exact names win over rules, rules over the zoo's default; a rule must match the whole name, so that ``resnet50d``
    never gets ``resnet50``'s key.
    """
    table = _tables().get(zoo, {})
    if name in table.get("names", {}):
        return str(table["names"][name])
    for pattern, key in _rules(zoo):
        if match := pattern.fullmatch(name):
            return match.expand(key)
    return name if table.get("identity") else None


@cache
def _tables() -> dict[str, Any]:
    """Read the data file once."""
    text = resources.files(__package__).joinpath("architectures.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def _rules(zoo: str) -> list[tuple[re.Pattern[str], str]]:
    """Compile a zoo's rules, in order."""
    return [(re.compile(rule["match"]), rule["key"]) for rule in _tables().get(zoo, {}).get("rules", [])]
