"""The command line. Commands call the same services as the API; tables go to people, JSON to programs."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from app import arguments, cli_drift, cli_keys, cli_schedules, cli_uploads, cli_vetting
from app.cli_shared import (
    AccuracyDevice,
    AccuracyRuntime,
    AsJson,
    Budget,
    ContractFile,
    DatasetName,
    Dimensions,
    Models,
    Points,
    PolicyName,
    Weights,
    opened,
)
from app.domain.datasets import FORMATS
from app.output import USAGE, fail, print_json, show

cli = typer.Typer(
    name="zooaudit",
    help="Measure whether same-named pretrained models of different zoos are interchangeable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
datasets = typer.Typer(help="Add and list data sets.", no_args_is_help=True, rich_markup_mode=None)
cli.add_typer(datasets, name="datasets")
predictions = typer.Typer(help="Import and list predictions.", no_args_is_help=True, rich_markup_mode=None)
cli.add_typer(predictions, name="predictions")
cli.add_typer(cli_vetting.policies, name="policies")
cli.add_typer(cli_keys.keys, name="keys")
cli.add_typer(cli_schedules.schedules, name="schedules")
cli.add_typer(cli_uploads.uploads, name="uploads")
cli.command()(cli_vetting.vet)

_PREDICTION = ("model", "dataset", "recorded", "items", "top1", "top5")


@cli.command()
def zoos(*, as_json: AsJson = False) -> None:
    """List the zoos."""
    with opened() as service:
        show(service.zoos(), as_json=as_json, columns=("name", "title", "listings", "version"))


@cli.command()
def models(
    zoo: Annotated[str | None, typer.Option("--zoo", help="Only this zoo.")] = None,
    match: Annotated[str | None, typer.Option("--match", help="Only references that contain this text.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the models of the zoos, weights tag by weights tag."""
    with opened() as service:
        found = service.listings(zoo=zoo, match=match)
        show(found, as_json=as_json, columns=("ref", "architecture", "default", "label_space"))


@cli.command()
def contract(
    ref: Annotated[str, typer.Argument(help="Reference of a listing, e.g. torchvision:resnet50@IMAGENET1K_V2.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Print what is done to a picture before a model sees it, step by step."""
    with opened() as service:
        found = service.contract(ref)
    if as_json:
        print_json(found)
    else:
        from app import render, render_contract

        render.console().print(render_contract.contract(found))


@cli.command()
def compare(
    a: Annotated[str, typer.Argument(help="Reference of A, e.g. torchvision:resnet50@none, or file:PATH.")],
    b: Annotated[str, typer.Argument(help="Reference of B.")],
    dimension: Dimensions = None,
    dataset: DatasetName = None,
    policy: PolicyName = "default",
    point: Points = None,
    budget: Budget = "60s",
    accuracy_runtime: AccuracyRuntime = None,
    accuracy_device: AccuracyDevice = None,
    contract_a: ContractFile = None,
    contract_b: ContractFile = None,
    diagram: Annotated[
        Path | None, typer.Option("--diagram", help="Also draw both graphs to this file: .svg, or .html.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Compare two models and say whether they are interchangeable."""
    arguments.check_diagram(diagram, dimension)
    asked = arguments.asked(
        dimension=dimension,
        dataset=dataset,
        policy_name=policy,
        point=point,
        budget=budget,
        accuracy_runtime=accuracy_runtime,
        accuracy_device=accuracy_device,
    )
    contracts = {"a": arguments.contract(contract_a), "b": arguments.contract(contract_b)}
    request = {"a": a, "b": b, "contracts": contracts} | asked
    with opened() as service:
        answer = service.compare(request)
        if as_json:
            print_json(answer)
        if answer["state"] != "succeeded":
            fail((answer.get("error") or {}).get("message") or f"The comparison was {answer['state']}.")
        if not as_json:
            from app import render

            render.console().print(render.comparison(answer))
        if diagram is not None:
            from app import diagram as pictures

            pictures.write(diagram, service.diagram(answer["id"]), answer)


@cli.command()
def audit(
    zoo: Annotated[list[str], typer.Option("--zoo", help="Zoo to audit; give at least two.")],
    model: Models = None,
    dimension: Dimensions = None,
    dataset: DatasetName = None,
    policy: PolicyName = "default",
    weights: Weights = "default",
    point: Points = None,
    budget: Budget = "60s",
    accuracy_runtime: AccuracyRuntime = None,
    accuracy_device: AccuracyDevice = None,
    report: Annotated[Path | None, typer.Option("--report", help="Also write the tables to this HTML file.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Compare same-named models zoo against zoo; print the largest discrepancies."""
    arguments.check_folder(report)
    asked = arguments.asked(
        dimension=dimension,
        dataset=dataset,
        policy_name=policy,
        point=point,
        budget=budget,
        accuracy_runtime=accuracy_runtime,
        accuracy_device=accuracy_device,
    )
    request = {"zoos": zoo, "models": model or [], "weights": weights} | asked
    with opened() as service:
        found = service.audit(request)
        if found["state"] != "succeeded":
            if as_json:
                print_json(found)
            fail((found.get("error") or {}).get("message") or f"The audit was {found['state']}.")
        from app import render

        tables = render.audit(found, *service.ranked(found["id"]))
        if report is not None:
            render.write_html(tables, report)
        if as_json:
            print_json({**found, "findings": service.findings(found["id"])})
        else:
            render.console().print(tables)


@cli.command()
def index(
    zoo: Annotated[list[str], typer.Option("--zoo", help="Zoo to fingerprint; repeat for several.")],
    *,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what could not be fingerprinted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fingerprint every architecture of a zoo, for `similar`; started again, it goes on where it stopped."""
    with opened() as service:
        found = service.index(list(dict.fromkeys(zoo)), retry=retry)
    if as_json:
        print_json(found)
    else:
        from app import render, render_similar

        render.console().print(render_similar.indexes(found))
    if broken := next((each for each in found if each["state"] != "succeeded"), None):
        reason = (broken["error"] or {}).get("message") or f"The index of zoo {broken['zoo']} was {broken['state']}."
        fail(reason)


@cli.command()
def similar(
    ref: Annotated[str, typer.Argument(help="Reference of a model, e.g. torchvision:resnet50@none, or file:PATH.")],
    zoo: Annotated[str | None, typer.Option("--zoo", help="Search only this zoo.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="Most models to show.")] = 10,
    *,
    as_json: AsJson = False,
) -> None:
    """Find the nearest architectures in the zoos that were indexed, whatever they are called."""
    with opened() as service:
        found = service.similar(ref, zoo=zoo, limit=limit)
    if as_json:
        print_json(found)
    else:
        from app import render, render_similar

        render.console().print(render_similar.similar(found))


@cli.command()
def claims(
    architecture: Annotated[str, typer.Argument(help="Architecture key, e.g. resnet50.")], *, as_json: AsJson = False
) -> None:
    """Compare what zoos claim of models of one name with each other, and with what was measured."""
    with opened() as service:
        found = service.claims(architecture)
    if as_json:
        print_json(found)
    else:
        from app import render, render_claims

        render.console().print(render_claims.claims(found))


@cli.command()
def history(
    ref: Annotated[str, typer.Argument(help="Reference of a listing whose latency was measured here.")],
    machine: Annotated[str | None, typer.Option("--machine", help="Only on this one; its first digits do.")] = None,
    since: Annotated[datetime | None, typer.Option("--since", help="Only runs from this time on, UTC.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show what a model took over time, machine by machine, and where that changed."""
    with opened() as service:
        found = service.history(ref, fingerprint=machine, since=since and since.replace(tzinfo=UTC))
    if as_json:
        print_json(found)
    else:
        from app import render, render_history

        render.console().print(render_history.history(ref, found))


cli.command()(cli_drift.drift)


@datasets.command("add")
def datasets_add(
    name: Annotated[str, typer.Argument(help="Name to give to the data set.")],
    path: Annotated[Path, typer.Argument(help="Its folder or file.")],
    data_format: Annotated[str, typer.Option("--format", help=f"{', '.join(FORMATS)} (docs/accuracy.md).")],
    label_space: Annotated[
        str | None, typer.Option("--label-space", help="Name of the classes and their order, e.g. imagenet-1k.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="test or train; Hugging Face: any.")] = None,
    labels: Annotated[str | None, typer.Option("--labels", help="CIFAR-100: fine or coarse.")] = None,
    ground_truth: Annotated[
        Path | None, typer.Option("--ground-truth", help="imagenet-flat: file with the answer of each picture.")
    ] = None,
    synsets: Annotated[
        Path | None, typer.Option("--synsets", help="imagenet-flat: the devkit's meta.mat, or its synsets by id.")
    ] = None,
    image_column: Annotated[str | None, typer.Option("--image-column", help="Of a table. Default: image.")] = None,
    label_column: Annotated[str | None, typer.Option("--label-column", help="Of a table. Default: label.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Add a data set of your own."""
    files = {"ground_truth": ground_truth, "synsets": synsets}
    options = {"split": split, "labels": labels, "image_column": image_column, "label_column": label_column}
    options |= {option: str(file.absolute()) for option, file in files.items() if file is not None}
    place = {"name": name, "format": data_format, "path": str(path.absolute())}
    request = {**place, "label_space": label_space, "options": options}
    with opened() as service:
        show([service.add_dataset(request)], as_json=as_json, columns=("name", "format", "path", "label_space"))


@datasets.command("list")
def datasets_list(*, as_json: AsJson = False) -> None:
    """List the data sets."""
    with opened() as service:
        show(service.datasets(), as_json=as_json, columns=("name", "format", "items", "label_space", "path"))


@predictions.command("import")
def predictions_import(
    file: Annotated[Path, typer.Argument(help="A .npz or .parquet file with labels, classes and scores.")],
    model: Annotated[str, typer.Option("--model", help="The model's reference; recorded:NAME for one in no zoo.")],
    dataset: Annotated[str, typer.Option("--dataset", help="Data set that it answered; a new name makes one.")],
    label_space: Annotated[
        str | None, typer.Option("--label-space", help="Label space of the answers. Default: the data set's.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Import what a model answered elsewhere, so that it can be compared without running it."""
    request = {"model": model, "dataset": dataset, "path": str(file.absolute()), "label_space": label_space}
    with opened() as service:
        done = service.import_predictions(request)
    if done["state"] != "succeeded":
        fail((done["error"] or {}).get("message") or f"The import was {done['state']}.")
    if as_json:
        print_json(done["prediction"])
    else:
        show([done["prediction"]], as_json=False, columns=_PREDICTION)


@predictions.command("list")
def predictions_list(
    dataset: Annotated[str | None, typer.Option("--dataset", help="Only on this data set.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only of this model.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List what models answered, live and imported."""
    with opened() as service:
        show(service.predictions(dataset=dataset, model=model), as_json=as_json, columns=_PREDICTION)


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on. Default: loopback only.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port to listen on.")] = None,
) -> None:
    """Serve the API; on the embedded default with a local worker beside it, which also keeps the schedules."""
    import uvicorn

    from app import beside, logs, tracing
    from app.api.guard import NO_KEYS, is_loopback
    from app.main import create_app

    with opened() as service:
        settings = service.settings
        address = host or settings.host
        if not service.has_keys():
            if not is_loopback(address):
                fail(f"{address} can be reached from other machines. {NO_KEYS}")
            typer.echo(f"No API keys: listening on {address} only, for everybody on this machine.", err=True)
        logs.configure()
        tracing.configure("zooaudit-api")
        chosen = settings.port if port is None else port
        # Who watches progress would keep the server from ending.
        patience = round(settings.stop_s)
        with beside.worker_kept(settings):
            uvicorn.run(
                create_app(settings), host=address, port=chosen, log_config=None, timeout_graceful_shutdown=patience
            )


@cli.command()
def worker() -> None:
    """Run a worker: for Celery when a broker is set, else one that polls the database."""
    from app.settings import Settings

    words = ["workers.local", "--schedules"]
    if not Settings().embedded:
        # Celery tells workers apart by name; this process keeps its number when it becomes one.
        name = ["--hostname", f"worker{os.getpid()}@%h"]
        words = ["celery", "--app", "workers.celery_app", "worker", *name, "--queues", "cpu", "--concurrency", "1"]
    os.execv(sys.executable, [sys.executable, "-m", *words])  # noqa: S606 - becomes the worker, no shell


@cli.command()
def migrate() -> None:
    """Create the database's tables, or bring them up to date."""
    with opened() as service:
        typer.echo(f"{service.database.engine.url.render_as_string()} is up to date.", err=True)


def main() -> None:
    """Run the command line; every error that a person can mend is one sentence and exit code 2."""
    from app.errors import ServiceError

    try:
        cli()
    except ServiceError as error:
        typer.echo(f"error: {error.message}", err=True)
        sys.exit(USAGE)


if __name__ == "__main__":
    main()
