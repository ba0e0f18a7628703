"""Policies: named margins and which dimensions are critical, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any


class Dimension(StrEnum):
    """What two listings are compared on."""

    ARCHITECTURE = "architecture"
    ACCURACY = "accuracy"
    LATENCY = "latency"


class InvalidPolicyError(ValueError):
    """A policy that cannot be used; the message names the field."""


@dataclass(frozen=True)
class Policy:
    """Margins within which two listings count as the same, and the dimensions that decide.

    ``critical=None`` makes every dimension critical that the comparison asked for. Margins are fractions:
    ``accuracy_margin`` of top-1 and top-5, ``disagreement_margin`` of the items that get another answer,
    ``latency_margin`` of the ratio of times, ``size_margin`` of parameters and operations.
    """

    name: str
    critical: frozenset[Dimension] | None = None
    accuracy_margin: float = 0.005
    disagreement_margin: float = 0.05
    latency_margin: float = 0.05
    size_margin: float = 0.0

    def __post_init__(self) -> None:
        """Refuse margins that cannot be reached or mean nothing."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_margin") and not 0 <= value < 1:
                raise InvalidPolicyError(f"{field.name} is {value!r}; a margin is a fraction from 0 to below 1.")

    def decides(self, dimension: Dimension, asked: frozenset[Dimension]) -> bool:
        """Whether a difference in ``dimension`` decides, when ``asked`` were asked for."""
        return dimension in (asked if self.critical is None else self.critical)

    def to_json(self) -> dict[str, Any]:
        """Return this policy as JSON."""
        value = asdict(self)
        value["critical"] = None if self.critical is None else sorted(self.critical)
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Policy:
        """Read ``to_json``'s form; raises InvalidPolicyError that names what is wrong."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(value) - known):
            raise InvalidPolicyError(f"A policy has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}.")
        if not isinstance(value.get("name"), str):
            raise InvalidPolicyError("A policy needs a name, a string.")
        for name in known - {"name", "critical"}:
            if name in value and (isinstance(value[name], bool) or not isinstance(value[name], int | float)):
                raise InvalidPolicyError(f"{name} is {value[name]!r}; a margin is a number.")
        critical = value.get("critical")
        try:
            return cls(**{**value, "critical": None if critical is None else frozenset(map(Dimension, critical))})
        except ValueError as error:
            if isinstance(error, InvalidPolicyError):
                raise
            raise InvalidPolicyError(f"{error}; dimensions are {', '.join(Dimension)}.") from error


POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy("default"),
        Policy("drop-in-api", critical=frozenset({Dimension.ACCURACY, Dimension.LATENCY})),
        Policy("fine-tune-backbone", critical=frozenset({Dimension.ARCHITECTURE})),
    )
}
