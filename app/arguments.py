"""What words of the command line stand for; what cannot be read is refused as a bad parameter."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from app import policy_files
from app.diagram import ENDINGS
from app.domain import points as operating_points
from app.domain.policies import Dimension

if TYPE_CHECKING:
    from collections.abc import Sequence


def contract(path: Path | None) -> dict[str, Any] | None:
    """Read the overridden fields of an input contract from a TOML or .json file; None for no file."""
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path} cannot be read as an input contract, TOML or .json: {error}.") from error
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{path} holds no JSON object; a contract is an object of its fields.")
    return value


def points(texts: Sequence[str] | None) -> list[dict[str, Any]] | None:
    """Read operating points as they are written on the command line; None for none."""
    try:
        return [operating_points.parse(text) for text in texts] if texts else None
    except operating_points.InvalidPointError as error:
        raise typer.BadParameter(str(error)) from error


def policy(name: str) -> str | dict[str, Any]:
    """Return a policy's name, or the policy in a YAML or JSON file."""
    path = Path(name)
    return policy_file(path) if path.suffix.lower() in policy_files.SUFFIXES or path.is_file() else name


def policy_file(path: Path) -> dict[str, Any]:
    """Return the policy in a YAML or JSON file."""
    try:
        return policy_files.load(path)
    except policy_files.PolicyFileError as error:
        raise typer.BadParameter(str(error)) from error


def seconds(text: str) -> float:
    """Read a time to spend: 60s, 2m, 1h."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        value = float(number) * units[unit]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no time; write 60s, 2m or 1h.") from error
    if not 0 < value < float("inf"):
        raise typer.BadParameter(f"{text!r} is no time to spend; write a positive one, e.g. 60s.")
    return value


def asked(
    *,
    dimension: Sequence[Dimension] | None,
    dataset: str | None,
    policy_name: str,
    point: Sequence[str] | None,
    budget: str,
    accuracy_runtime: str | None,
    accuracy_device: str | None,
) -> dict[str, Any]:
    """Return what a request asks of every pair, as the services take it."""
    return {
        "dimensions": [str(item) for item in dict.fromkeys(dimension)] if dimension else None,
        "dataset": dataset,
        "policy": policy(policy_name),
        "latency_budget_s": seconds(budget),
        "operating_points": points(point),
        "accuracy_runtime": accuracy_runtime,
        "accuracy_device": accuracy_device,
    }


def check_folder(path: Path | None) -> None:
    """Refuse, before any work, a file to be written that lies in no folder; None is no file."""
    if path is not None and not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"the folder of {path} does not exist; make it first.")


def write(path: Path, text: str) -> None:
    """Write a file that was asked for."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error}.") from error


def check_diagram(path: Path | None, dimensions: Sequence[Dimension] | None) -> None:
    """Refuse, before any work, what could not be drawn or written."""
    if path is None:
        return
    if path.suffix.lower() not in ENDINGS:
        raise typer.BadParameter(f"{path} ends in neither {' nor '.join(ENDINGS)}; the ending says what to write.")
    if dimensions and Dimension.ARCHITECTURE not in dimensions:
        raise typer.BadParameter("--diagram draws architectures; add --dimension architecture.")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise typer.BadParameter(f"the folder of {path} does not exist; make it first.")
    if path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise typer.BadParameter(f"{path} cannot be written; choose another file.")
