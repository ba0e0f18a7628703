"""What the commands share: their common options, the services they call, and how they print and fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from app.domain.policies import Dimension

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.inprocess import InProcess

USAGE = 2
"""Exit code of every error, as DESIGN has it."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Dimensions = Annotated[
    list[Dimension] | None,
    typer.Option("--dimension", help="What to compare; repeat for several. Default: all that can be measured."),
]
DatasetName = Annotated[str | None, typer.Option("--dataset", help="Data set for accuracy (`zooaudit datasets list`).")]
PolicyName = Annotated[
    str, typer.Option("--policy", help="Name of a policy (name@version: that one), or a YAML or JSON file.")
]
ContractFile = Annotated[
    Path | None,
    typer.Option(help="TOML or .json file with the fields of this side's input contract to override, for accuracy."),
]
Budget = Annotated[
    str, typer.Option("--budget", help="Time to spend on latency, for each group of models: 60s, 2m.", metavar="TIME")
]
AccuracyRuntime = Annotated[
    str | None, typer.Option(help="Runtime that answers the data set: onnxruntime (default) or torch.")
]
AccuracyDevice = Annotated[str | None, typer.Option(help="Device that it runs on: cpu (default) or cuda.")]


def opened() -> InProcess:
    """Return the services on the database that the settings name, a context manager."""
    # Imported on use: `zooaudit --help` must not wait for the database packages.
    from app.inprocess import InProcess
    from app.settings import Settings

    return InProcess(Settings())


def show(rows: Sequence[dict[str, Any]], *, as_json: bool, columns: Sequence[str]) -> None:
    """Print rows as a table of these columns, or as JSON."""
    if as_json:
        print_json(list(rows))
        return
    from app import render

    render.console().print(render.rows(rows, columns))


def print_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str, allow_nan=False) + "\n")


def fail(message: str) -> NoReturn:
    """End the command with an error."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(USAGE)
