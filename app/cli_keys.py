"""``zooaudit keys``: API keys, made directly in the database, which is how the first one comes to be."""

from __future__ import annotations

import uuid
from typing import Annotated

import typer

from app.cli_shared import AsJson, opened
from app.domain.keys import Scope  # noqa: TC001 - typer evaluates a command's annotations when it runs
from app.domain.teams import SHARED
from app.output import print_json, show

keys = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True, rich_markup_mode=None)

_COLUMNS = ("id", "shown", "name", "team", "scope", "state", "expires_at", "last_used_on")


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(help="For people, to tell the key from others.")],
    scope: Annotated[Scope, typer.Option("--scope", help="What it may do: submit includes read, admin includes all.")],
    team: Annotated[
        str, typer.Option("--team", help="Whose is what it submits; it sees that and what is shared.")
    ] = SHARED,
    days: Annotated[
        int, typer.Option("--days", min=0, max=36500, help="Days until it expires; 0: only when it is revoked.")
    ] = 365,
    requests_per_minute: Annotated[
        int | None, typer.Option("--requests-per-minute", min=1, help="Default: the setting.")
    ] = None,
    submissions_per_day: Annotated[
        int | None, typer.Option("--submissions-per-day", min=1, help="Default: the setting.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once."""
    request = {"name": name, "team": team, "scope": scope, "expires_in_days": days or None}
    limits = {"requests_per_minute": requests_per_minute, "submissions_per_day": submissions_per_day}
    with opened() as service:
        made = service.create_key(request | limits)
    if as_json:
        print_json(made)
    else:
        until = made["expires_at"][:10] if made["expires_at"] else "it is revoked"
        typer.echo(f"Key {made['id']} of team {team}, scope {scope}, until {until}. It is shown this once:", err=True)
        typer.echo(made["token"])


@keys.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List the keys, without the keys themselves."""
    with opened() as service:
        show(service.keys(), as_json=as_json, columns=_COLUMNS)


@keys.command("revoke")
def revoke(
    key_id: Annotated[uuid.UUID, typer.Argument(help="Its id (`zooaudit keys list`).")], *, as_json: AsJson = False
) -> None:
    """Revoke a key for good; running services notice within ten seconds."""
    with opened() as service:
        show([service.revoke_key(key_id)], as_json=as_json, columns=_COLUMNS)
