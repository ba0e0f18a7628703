"""What commands print: tables for people, one JSON document for programs, one sentence for an error."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = 2
"""Exit code of every error, as DESIGN has it."""


def show(rows: Sequence[dict[str, Any]], *, as_json: bool, columns: Sequence[str]) -> None:
    """Print rows as a table of these columns, or all they hold as JSON."""
    if as_json:
        print_json(list(rows))
        return
    from app import render  # noqa: PLC0415 - a command imports what it uses, so that --help answers at once

    render.console().print(render.rows(rows, columns))


def print_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, default=str, allow_nan=False) + "\n")


def fail(message: str) -> NoReturn:
    """End the command with a sentence and the exit code of errors."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(USAGE)
