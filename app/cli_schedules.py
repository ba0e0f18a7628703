"""``zooaudit schedules``: audits that come due again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app import arguments
from app.cli_shared import (
    AccuracyDevice,
    AccuracyRuntime,
    AsJson,
    Budget,
    DatasetName,
    Dimensions,
    Models,
    Points,
    PolicyName,
    Weights,
    opened,
)
from app.domain.schedules import Missed
from app.output import print_json, show

if TYPE_CHECKING:
    from collections.abc import Sequence

schedules = typer.Typer(
    help="Audits that come due again and again; `zooaudit serve`, `worker` or a scheduler process submits them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_COLUMNS = ("name", "cron", "time_zone", "missed", "enabled", "next_due_at", "last_audit", "last_state")

Name = Annotated[str, typer.Argument(help="Name of the schedule.")]
MISSED = "What becomes of due times at which no audit could start."


@schedules.command("list")
def schedules_list(*, as_json: AsJson = False) -> None:
    """List the schedules: when each is next due, and its last audit."""
    from app.inprocess import every_item
    from app.services import schedules as service

    with opened() as here, here.database.read() as session:
        _show(every_item(lambda wanted: service.find(session, wanted)), as_json=as_json)


@schedules.command("add")
def schedules_add(
    name: Annotated[str, typer.Argument(help="Name to give to the schedule.")],
    cron: Annotated[str, typer.Option("--cron", help="Minute, hour, day of month, month, day of week: '0 3 * * 1'.")],
    zoo: Annotated[list[str], typer.Option("--zoo", help="Zoo to audit; give at least two.")],
    time_zone: Annotated[str, typer.Option("--time-zone", help="IANA name, e.g. Europe/Berlin.")] = "UTC",
    missed: Annotated[Missed, typer.Option("--missed", help=MISSED)] = Missed.LATEST,
    model: Models = None,
    dimension: Dimensions = None,
    dataset: DatasetName = None,
    policy: PolicyName = "default",
    weights: Weights = "default",
    point: Points = None,
    budget: Budget = "60s",
    accuracy_runtime: AccuracyRuntime = None,
    accuracy_device: AccuracyDevice = None,
    *,
    disabled: Annotated[bool, typer.Option("--disabled", help="Do not let it come due yet.")] = False,
    as_json: AsJson = False,
) -> None:
    """Add a schedule for an audit; the options are those of `zooaudit audit`."""
    asked = arguments.asked(
        dimension=dimension,
        dataset=dataset,
        policy_name=policy,
        point=point,
        budget=budget,
        accuracy_runtime=accuracy_runtime,
        accuracy_device=accuracy_device,
    )
    audit = {"zoos": zoo, "models": model or [], "weights": weights} | asked
    request = {"name": name, "cron": cron, "time_zone": time_zone, "missed": str(missed), "enabled": not disabled}
    from app.services import schedules as service
    from app.services.submission import Caller

    with opened() as here, here.database.write() as session:
        added = service.create(session, here.settings, request | {"request": audit}, Caller())
    _show([added], as_json=as_json)


@schedules.command("change")
def schedules_change(
    name: Name,
    rename: Annotated[str | None, typer.Option("--rename", help="Another name.")] = None,
    cron: Annotated[str | None, typer.Option("--cron", help="Another cron expression.")] = None,
    time_zone: Annotated[str | None, typer.Option("--time-zone", help="Another time zone.")] = None,
    missed: Annotated[Missed | None, typer.Option("--missed", help=MISSED)] = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Let it come due, or rest.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Change a schedule; what is not given stays."""
    given = {"name": rename, "cron": cron, "time_zone": time_zone, "missed": missed and str(missed), "enabled": enabled}
    changed = {field: value for field, value in given.items() if value is not None}
    if not changed:
        raise typer.BadParameter("say what to change: --rename, --cron, --time-zone, --missed, --enable or --disable.")
    from app.services import schedules as service

    with opened() as here, here.database.write() as session:
        now = service.change(session, here.settings, service.named(session, name), changed)
    _show([now], as_json=as_json)


@schedules.command("remove")
def schedules_remove(name: Name) -> None:
    """Remove a schedule and the record of its runs; its audits stay."""
    from app.services import schedules as service

    with opened() as here, here.database.write() as session:
        service.remove(session, service.named(session, name))
    typer.echo(f"Schedule {name} is removed; its audits stay.", err=True)


@schedules.command("runs")
def schedules_runs(name: Name, *, as_json: AsJson = False) -> None:
    """List what the due times of a schedule led to, the latest first."""
    from app.inprocess import every_item
    from app.services import schedules as service

    with opened() as here, here.database.read() as session:
        schedule_id = service.named(session, name)
        found = every_item(lambda wanted: service.runs(session, schedule_id, wanted))
    rows = [run | {"error": (run["error"] or {}).get("message")} for run in found]
    show(found if as_json else rows, as_json=as_json, columns=("due_at", "started_at", "audit_id", "state", "error"))


def _show(found: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Print schedules: a list for ``list``, and the one that was added or changed alike."""
    if as_json:
        print_json(found)
        return
    last = [schedule["last_run"] or {} for schedule in found]
    rows = [
        schedule | {"last_audit": run.get("audit_id"), "last_state": run.get("state")}
        for schedule, run in zip(found, last, strict=True)
    ]
    show(rows, as_json=False, columns=_COLUMNS)
