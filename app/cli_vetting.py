"""``zooaudit vet`` and ``zooaudit policies``."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from app import arguments
from app.cli_shared import (
    AccuracyDevice,
    AccuracyRuntime,
    AsJson,
    Budget,
    ContractFile,
    DatasetName,
    Dimensions,
    Points,
    PolicyName,
    opened,
)
from app.output import fail, print_json, show

EXIT_CODES = {"pass": 0, "fail": 1, "not_enough_evidence": 3}

policies = typer.Typer(
    help="List, look at and add policies: margins, and what is critical.", no_args_is_help=True, rich_markup_mode=None
)

_COLUMNS = ("name", "version", "critical", "advisory", "accuracy", "disagreement", "latency", "size", "better")


def vet(
    candidate: Annotated[str | None, typer.Argument(help="Reference of the model that is to take the place.")] = None,
    against: Annotated[str | None, typer.Option("--against", help="Reference of the model whose place it is.")] = None,
    policy: PolicyName = ...,  # type: ignore[assignment]  # typer's mark of an option that has no default
    comparison: Annotated[
        uuid.UUID | None,
        typer.Option("--comparison", help="Instead of two models: a stored comparison, judged without measuring."),
    ] = None,
    dimension: Dimensions = None,
    dataset: DatasetName = None,
    point: Points = None,
    budget: Budget = "60s",
    accuracy_runtime: AccuracyRuntime = None,
    accuracy_device: AccuracyDevice = None,
    contract_candidate: ContractFile = None,
    contract_reference: ContractFile = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Also write a summary for a pull request to this file.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Decide under a policy whether a model may take another's place.

    Exit code 0: pass. 1: fail. 3: not enough evidence. 2: error.
    """
    arguments.check_folder(markdown)
    if comparison is not None:
        measuring = (candidate, against, dimension, dataset, point, accuracy_runtime, accuracy_device)
        if any((*measuring, contract_candidate, contract_reference)):
            raise typer.BadParameter("a stored --comparison is not measured again; give it with --policy alone.")
        request: dict[str, Any] = {"policy": arguments.policy(policy), "comparison_id": str(comparison)}
    else:
        if not candidate or not against:
            raise typer.BadParameter("name a candidate and what it is vetted --against, or a --comparison.")
        asked = arguments.asked(
            dimension=dimension,
            dataset=dataset,
            policy_name=policy,
            point=point,
            budget=budget,
            accuracy_runtime=accuracy_runtime,
            accuracy_device=accuracy_device,
        )
        contracts = {"a": arguments.contract(contract_candidate), "b": arguments.contract(contract_reference)}
        request = {"candidate": candidate, "reference": against, "contracts": contracts} | asked
    with opened() as service:
        vetted = service.vet(request)
    _print(vetted, markdown, as_json=as_json)
    raise typer.Exit(EXIT_CODES[vetted["verdict"]])


def _print(vetted: dict[str, Any], markdown: Path | None, *, as_json: bool) -> None:
    if as_json:
        print_json(vetted)
    if markdown is not None:
        from app import summary

        arguments.write(markdown, summary.markdown(vetted))
    if vetted["state"] != "succeeded":
        fail((vetted["error"] or {}).get("message") or f"The vetting was {vetted['state']}.")
    if not as_json:
        from app import render, render_vetting

        render.console().print(render_vetting.vetting(vetted))


@policies.command("list")
def policies_list(*, as_json: AsJson = False) -> None:
    """List the policies, each in its newest version."""
    with opened() as service:
        found = service.policies()
    show(found if as_json else [_row(policy) for policy in found], as_json=as_json, columns=_COLUMNS)


@policies.command("show")
def policies_show(name: Annotated[str, typer.Argument(help="Name of the policy.")], *, as_json: AsJson = False) -> None:
    """Print a policy with all its versions, the newest first."""
    with opened() as service:
        found = service.policy(name)
    if as_json:
        print_json(found)
    else:
        show([_row(each) for each in found["versions"]], as_json=False, columns=(*_COLUMNS, "created_at"))


@policies.command("add")
def policies_add(
    file: Annotated[Path, typer.Argument(help="A YAML or JSON file with a policy (docs/vetting.md).")],
    *,
    as_json: AsJson = False,
) -> None:
    """Store a policy under its name, as a new version unless the newest says the same."""
    content = arguments.policy_file(file)
    with opened() as service:
        stored = service.add_policy(content)
    show([stored] if as_json else [_row(stored)], as_json=as_json, columns=_COLUMNS)


def _row(policy: dict[str, Any]) -> dict[str, Any]:
    """Return a policy as people read it in a table."""
    critical = policy["critical"]
    tiers = {
        "critical": "what is asked for" if critical is None else ", ".join(critical),
        "advisory": ", ".join(policy["advisory"]),
    }
    margins = {
        name.removesuffix("_margin"): f"{100 * value:g} %" for name, value in policy.items() if name.endswith("_margin")
    }
    return policy | tiers | margins | {"better": "passes" if policy.get("allow_better") else "fails"}
