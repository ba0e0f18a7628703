"""Policies as people write them: a YAML or JSON file, whose mistakes are named by file, line and field."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from app.domain.policies import InvalidPolicyError, read

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".yaml", ".yml", ".json")


class PolicyFileError(ValueError):
    """A file that holds no policy; the message has a line for each mistake."""


def load(path: Path) -> dict[str, Any]:
    """Return the policy in a file, as ``Policy.content`` has it; raises PolicyFileError that names every mistake."""
    try:
        text = path.read_text(encoding="utf-8")
        value, lines = _json(text) if path.suffix.lower() == ".json" else _yaml(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PolicyFileError(f"{path}:{line}: this is no YAML: {error.problem}.") from error
    except json.JSONDecodeError as error:
        raise PolicyFileError(f"{path}:{error.lineno}: this is no JSON: {error.msg}.") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise PolicyFileError(f"{path} cannot be read as a policy: {error}.") from error
    wrong = [
        (each[-1], f"{field} was set on line {each[0]} already.") for field, each in lines.items() if len(each) > 1
    ]
    try:
        policy = read(value)
    except InvalidPolicyError as error:
        wrong += [(lines.get(each.field, [0])[-1], each.message) for each in error.mistakes]
    if wrong:
        said = (f"{path}:{line}: {message}" if line else f"{path}: {message}" for line, message in sorted(wrong))
        raise PolicyFileError("\n".join(said))
    return policy.content()


def _json(text: str) -> tuple[Any, dict[str, list[int]]]:
    value = json.loads(text)
    try:
        # JSON is YAML too, but for tabs; only then are the lines of its fields unknown.
        return value, _lines(yaml.compose(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError:
        return value, {}


def _yaml(text: str) -> tuple[Any, dict[str, list[int]]]:
    return yaml.safe_load(text), _lines(yaml.compose(text, Loader=yaml.SafeLoader))


def _lines(node: yaml.Node | None) -> dict[str, list[int]]:
    """Return the lines on which each field of the outermost object stands, from 1."""
    found: dict[str, list[int]] = {}
    if isinstance(node, yaml.MappingNode):
        for key, _ in node.value:
            found.setdefault(str(key.value), []).append(key.start_mark.line + 1)
    return found
