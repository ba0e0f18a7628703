"""What the commands share: their common options, and the services they call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.domain.policies import Dimension

if TYPE_CHECKING:
    from app.inprocess import InProcess

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
Points = Annotated[
    list[str] | None,
    typer.Option("--point", help="Where latency is measured (docs/latency.md); repeatable.", metavar="KEY=VALUE,…"),
]
AccuracyRuntime = Annotated[
    str | None, typer.Option(help="Runtime that answers the data set: onnxruntime (default) or torch.")
]
Models = Annotated[
    list[str] | None, typer.Option("--model", help="Architecture keys to audit, with wildcards. Default: all.")
]
Weights = Annotated[str, typer.Option("--weights", help="Weights tag to pick; none needs no download.")]
AccuracyDevice = Annotated[str | None, typer.Option(help="Device that it runs on: cpu (default) or cuda.")]


def opened() -> InProcess:
    """Return the services on the database that the settings name, a context manager."""
    # Imported on use: `zooaudit --help` must not wait for the database packages.
    from app.inprocess import InProcess
    from app.settings import Settings

    return InProcess(Settings())
