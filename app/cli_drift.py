"""``zooaudit drift``: what changed between two audits."""

from __future__ import annotations

import uuid
from typing import Annotated

import typer

from app.cli_shared import AsJson, opened
from app.output import print_json

AuditId = Annotated[uuid.UUID, typer.Argument(help="Id of the audit.")]
Against = Annotated[
    uuid.UUID | None,
    typer.Option("--against", help="Id of the audit to compare with. Default: the schedule's one before."),
]


def drift(
    audit: AuditId,
    against: Against = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Tell what changed since another audit: listings, artifacts, verdicts, findings."""
    with opened() as service:
        found = service.drift(audit, against)
    if as_json:
        print_json(found)
        return
    from app import render, render_drift

    render.console().print(render_drift.drift(found))
