"""``zooaudit uploads``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli_shared import AsJson, opened
from app.output import show

uploads = typer.Typer(
    help="Add, list and remove model files that have a reference of their own.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_COLUMNS = ("name", "ref", "bytes", "created_at")


@uploads.command("add")
def add(
    path: Annotated[Path, typer.Argument(help="An ONNX file.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Keep a copy of a model file, by its SHA-256; compare and vet it by the reference that is printed."""
    with opened() as service:
        show([service.add_upload(path.absolute())], as_json=as_json, columns=_COLUMNS)


@uploads.command("list")
def find(*, as_json: AsJson = False) -> None:
    """List the uploads, the newest first."""
    with opened() as service:
        show(service.uploads(), as_json=as_json, columns=_COLUMNS)


@uploads.command("remove")
def remove(ref: Annotated[str, typer.Argument(help="As it is listed: upload:SHA256.")]) -> None:
    """Delete an upload; what was measured of it stays. Refused while a comparison that has not ended needs it."""
    from app.services import uploads as service

    with opened() as here, here.database.write() as session:
        service.remove(session, here.settings, service.named(session, ref))
    typer.echo(f"{ref} is removed; what was measured of it stays.", err=True)
