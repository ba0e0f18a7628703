"""Write the pages that restate code: docs/cli.md and docs/settings.md. Run it after changing a command or a setting.

python docs/generate.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app.cli import cli
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

DOCS = Path(__file__).parent


def commands(group: click.Command | None = None, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command and group of commands, in the order of the help."""
    group = group or typer.main.get_command(cli)
    yield words
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*words, name))


def command_line() -> str:
    """Return docs/cli.md: every command's own help."""
    parts = ["# The command line\n\nThis page is written by `python docs/generate.py`.\n"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZOOAUDIT_")}
    environment |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    for command in commands():
        words = ["zooaudit", *command, "--help"]
        called = [sys.executable, "-m", "app.cli", *words[1:]]
        shown = subprocess.run(called, capture_output=True, text=True, check=True, env=environment).stdout
        lines = "\n".join(line.rstrip() for line in shown.strip().splitlines())
        parts.append(f"## `{' '.join(words[:-1])}`\n\n```\n{lines}\n```\n")
    return "\n".join(parts)


def settings() -> str:
    """Return docs/settings.md: every setting, its default and its meaning."""
    rows = [
        f"| `ZOOAUDIT_{name.upper()}` | `{field.default}` | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    head = "# Settings\n\nThis page is written by `python docs/generate.py`.\n\n| variable | default | meaning |\n"
    return head + "| --- | --- | --- |\n" + "\n".join(rows) + "\n"


PAGES = {"cli.md": command_line, "settings.md": settings}

if __name__ == "__main__":
    for name, render in PAGES.items():
        (DOCS / name).write_text(render())
