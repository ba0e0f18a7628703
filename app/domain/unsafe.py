"""A model that could not be audited safely, as a finding: a result like any other, not a failure. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.domain.policies import Dimension
from app.domain.states import FailureClass
from app.domain.verdicts import Finding, Place, Severity

if TYPE_CHECKING:
    from collections.abc import Collection

    from app.domain.policies import Policy

METRIC = "safe loading"


def seen(errors: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the errors of a comparison that say that a model is unsafe, one a model, in the order of its dimensions.

    ``evidence.ref`` names the model.
    """
    found: dict[str, dict[str, Any]] = {}
    for error in errors.values():
        if error["class"] == FailureClass.UNSAFE and "ref" in error.get("evidence", {}):
            found.setdefault(error["evidence"]["ref"], error)
    return list(found.values())


def sentence(error: dict[str, Any]) -> str:
    """Say which model could not be audited safely, and why."""
    return f"{error['evidence']['ref']} could not be audited safely: {error['message']}"


def findings(errors: dict[str, Any], policy: Policy, asked: Collection[Dimension]) -> list[Finding]:
    """Return a finding ``safe loading`` for each model that is unsafe, with its reason and what was seen."""
    found = []
    for error in seen(errors):
        dimension = next(Dimension(name) for name, each in errors.items() if each is error)
        severity = Severity.CRITICAL if policy.decides(dimension, frozenset(asked)) else Severity.ADVISORY
        details = {"code": error["code"], "message": error["message"]} | error["evidence"]
        found.append(Finding(dimension, METRIC, None, None, None, None, None, Place.INCONCLUSIVE, severity, details))
    return found
