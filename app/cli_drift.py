"""``zooaudit drift``: what changed between two audits."""

from __future__ import annotations

import json
import sys
import uuid
from typing import Annotated

import typer

AuditId = Annotated[uuid.UUID, typer.Argument(help="Id of the audit.")]
Against = Annotated[
    uuid.UUID | None,
    typer.Option("--against", help="Id of the audit to compare with. Default: the schedule's one before."),
]


def drift(
    audit: AuditId,
    against: Against = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Tell what changed since another audit: listings, artifacts, verdicts, findings."""
    from app.inprocess import InProcess
    from app.settings import Settings

    with InProcess(Settings()) as service:
        found = service.drift(audit, against)
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2, allow_nan=False) + "\n")
        return
    from app import render, render_drift

    render.console().print(render_drift.drift(found))
