"""Policies: named margins and which criteria are critical or advisory, as data."""

from __future__ import annotations

import difflib
import reprlib
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


class Dimension(StrEnum):
    """What two listings are compared on."""

    ARCHITECTURE = "architecture"
    ACCURACY = "accuracy"
    LATENCY = "latency"


class Criterion(StrEnum):
    """What a policy can call critical or advisory: the dimensions, and what else two listings may share."""

    ARCHITECTURE = "architecture"
    ACCURACY = "accuracy"
    LATENCY = "latency"
    INTERFACE = "interface"
    """Input and output shapes, label space."""
    WEIGHTS = "weights"
    FEATURES = "features"
    """What the layers before the head give, which an index of embeddings is made of."""


@dataclass(frozen=True)
class Mistake:
    """What is wrong with one field of a policy; ``field`` is empty where it is about the whole."""

    field: str
    message: str


class InvalidPolicyError(ValueError):
    """A policy that cannot be used; ``mistakes`` has one for each field that is wrong."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__(" ".join(mistake.message for mistake in mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True)
class Policy:
    """Margins within which two listings count as the same, and the criteria that decide.

    ``critical=None`` makes every dimension critical that the comparison asked for. ``advisory`` ones are judged and
    told, and decide nothing. The interface decides unless it is advisory. Margins are fractions: ``accuracy_margin`` of
    top-1 and top-5, ``disagreement_margin`` of the items that get another answer, ``latency_margin`` of the ratio of
    times, ``size_margin`` of parameters and operations. ``allow_better`` lets a vetting pass a candidate that is more
    accurate or faster than its margin; a comparison, which has no candidate, has two sides all the same. ``version`` is
    that under which it is stored, None where it is not.
    """

    name: str
    critical: frozenset[Criterion] | None = None
    advisory: frozenset[Criterion] = frozenset()
    accuracy_margin: float = 0.005
    disagreement_margin: float = 0.05
    latency_margin: float = 0.05
    size_margin: float = 0.0
    allow_better: bool = False
    version: int | None = None

    def __post_init__(self) -> None:
        """Refuse margins that cannot be reached or mean nothing, and criteria in two tiers."""
        if found := list(_mistakes(self.content())):
            raise InvalidPolicyError(found)

    def decides(self, criterion: Dimension | Criterion, asked: Collection[Dimension]) -> bool:
        """Whether a difference in ``criterion`` decides, when ``asked`` were asked for."""
        if criterion == Criterion.INTERFACE:
            return criterion not in self.advisory
        return criterion in (asked if self.critical is None else self.critical)

    def criteria(self, asked: Collection[Dimension]) -> list[Criterion]:
        """Return the criteria that this policy judges, the critical ones first, when ``asked`` were asked for."""
        tiers = self.advisory if self.critical is None else self.critical | self.advisory
        named = {*tiers, Criterion.INTERFACE, *(map(Criterion, asked) if self.critical is None else ())}
        return sorted(named, key=lambda each: (not self.decides(each, asked), list(Criterion).index(each)))

    def content(self) -> dict[str, Any]:
        """Return what this policy says, its version left out, as JSON."""
        value = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "version"}
        value["critical"] = None if self.critical is None else sorted(self.critical)
        value["advisory"] = sorted(self.advisory)
        if not self.allow_better:
            # Workers of before it was there refuse what they do not know.
            del value["allow_better"]
        return value

    def to_json(self) -> dict[str, Any]:
        """Return this policy as JSON."""
        return self.content() | {"version": self.version}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Policy:
        """Read ``to_json``'s form, of this version of the code or an earlier one; raises InvalidPolicyError."""
        content = {name: item for name, item in value.items() if name != "version"}
        if found := list(_mistakes(content)):
            raise InvalidPolicyError(found)
        critical = content.get("critical")
        tiers = {
            "critical": None if critical is None else frozenset(map(Criterion, critical)),
            "advisory": frozenset(map(Criterion, content.get("advisory") or ())),
        }
        return cls(**{**content, **tiers}, version=value.get("version"))


def read(value: Any) -> Policy:  # noqa: ANN401 - whatever a person wrote
    """Read a policy as people write it; raises InvalidPolicyError that names every mistake."""
    if not isinstance(value, dict):
        raise InvalidPolicyError([Mistake("", "A policy is a set of fields: a name, margins, critical, advisory.")])
    found = list(_mistakes(value))
    if value.get("critical") == []:
        message = "critical is empty, so that nothing could fail; leave it out to make critical what is asked for."
        found.append(Mistake("critical", message))
    if found:
        raise InvalidPolicyError(found)
    return Policy.from_json(value)


_FIELDS = tuple(field.name for field in fields(Policy) if field.name != "version")
_TIERS = ("critical", "advisory")
_LONGEST_NAME = 100


def _mistakes(value: dict[Any, Any]) -> Iterator[Mistake]:
    for field in value:
        if field not in _FIELDS:
            hint = near(str(field), _FIELDS) or f"; it has {', '.join(_FIELDS)}."
            yield Mistake(str(field), f"A policy has no field {field}{hint}")
    name = value.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
        yield Mistake("name", f"A policy needs a name, a string of at most {_LONGEST_NAME} characters.")
    for field in _FIELDS:
        if field.endswith("_margin") and field in value:
            yield from _margin_mistakes(field, value[field])
    if not isinstance(better := value.get("allow_better", False), bool):
        yield Mistake("allow_better", f"allow_better is {reprlib.repr(better)}; write true or false.")
    for field in _TIERS:
        yield from _tier_mistakes(field, value.get(field))
    tiers = [value[tier] for tier in _TIERS if isinstance(value.get(tier), list)]
    if len(tiers) == len(_TIERS):
        for both in (each for each in tiers[1] if each in tiers[0]):
            yield Mistake("advisory", f"{both} is critical and advisory; leave it in one of them.")


def _margin_mistakes(field: str, margin: object) -> Iterator[Mistake]:
    if isinstance(margin, bool) or not isinstance(margin, int | float):
        yield Mistake(field, f"{field} is {reprlib.repr(margin)}; a margin is a number: 0.005 for 0.5 %.")
    elif not 0 <= margin < 1:
        yield Mistake(field, f"{field} is {margin!r}; a margin is a fraction from 0 to below 1: 0.005 for 0.5 %.")


def _tier_mistakes(field: str, tier: object) -> Iterator[Mistake]:
    if tier is None:
        return
    if not isinstance(tier, list):
        yield Mistake(field, f"{field} is {reprlib.repr(tier)}; it is a list of {', '.join(Criterion)}.")
        return
    for each in tier:
        if each not in list(Criterion):
            hint = near(str(each), list(Criterion)) or f"; choose from {', '.join(Criterion)}."
            yield Mistake(field, f"{field} names {reprlib.repr(each)}, which is no criterion{hint}")


def near(word: str, known: Collection[str]) -> str:
    """Return the advice on a word that is not known; empty when none is like it."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""


POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy("default"),
        Policy(
            "drop-in-api",
            critical=frozenset({Criterion.ACCURACY, Criterion.INTERFACE, Criterion.LATENCY}),
            advisory=frozenset({Criterion.ARCHITECTURE}),
        ),
        # Fine-tuning puts another head on, so that the old one's outputs are told for information.
        Policy(
            "fine-tune-backbone",
            critical=frozenset({Criterion.ARCHITECTURE, Criterion.WEIGHTS}),
            advisory=frozenset({Criterion.ACCURACY, Criterion.INTERFACE}),
        ),
        Policy(
            "embedding-index",
            critical=frozenset({Criterion.FEATURES, Criterion.INTERFACE}),
            advisory=frozenset({Criterion.ACCURACY, Criterion.ARCHITECTURE}),
        ),
    )
}
"""The policies that ship with the project."""
