"""What changed between two audits of the same zoos. Pure: nothing is stored or measured here.

``drift(x, x)`` is empty, and ``drift(y, x)`` is ``drift(x, y)`` with before and after exchanged.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from app.domain.policies import Dimension
from app.domain.verdicts import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from app.domain.verdicts import Interval

Pair = tuple[str, str]
Key = TypeVar("Key", str, Pair)
Value = TypeVar("Value")
Made = TypeVar("Made")


class Identity(NamedTuple):
    """What makes findings of two audits the same finding."""

    a_ref: str
    b_ref: str
    dimension: str
    metric: str

    @property
    def pair(self) -> Pair:
        """The two references."""
        return (self.a_ref, self.b_ref)


@dataclass(frozen=True)
class Judged:
    """What an audit found. ``effect``, its interval and ``margin`` are fractions; of latency, of the ratio less one.

    ``basis`` is what its numbers depend on besides the models: the fingerprint of the machine for latency, the digest
    of the items for accuracy.
    """

    verdict: str
    effect: float | None = None
    interval: Interval | None = None
    margin: float | None = None
    a: float | None = None
    b: float | None = None
    basis: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as findings are written elsewhere."""
        ci95 = None if self.interval is None else list(self.interval)
        numbers = {"a": self.a, "b": self.b, "effect": self.effect, "ci95": ci95, "margin": self.margin}
        return {"verdict": self.verdict} | numbers


@dataclass(frozen=True)
class Snapshot:
    """One audit: what was listed, by reference, which bytes that was (SHA-256), how each pair ended, what was found.

    ``listings`` is None for an audit that did not keep them; the references of the pairs then stand for them.
    ``pairs`` holds the verdict of each, or the state of one without a verdict.
    """

    listings: Mapping[str, Mapping[str, Any]] | None
    artifacts: Mapping[str, str]
    pairs: Mapping[Pair, str]
    findings: Mapping[Identity, Judged]

    def compared(self) -> dict[str, Mapping[str, Any]]:
        """Return the references of the pairs, as listings of which nothing is known."""
        return {ref: {} for pair in self.pairs for ref in pair}


@dataclass(frozen=True)
class Change:
    """Something that is in both audits, and not the same."""

    before: Any
    after: Any


@dataclass(frozen=True)
class Movement:
    """A finding that changed, and ``why``: see ``reasons``."""

    before: Judged
    after: Judged
    why: tuple[str, ...]


@dataclass(frozen=True)
class Alone:
    """A finding of one audit only. ``lacks``: what the other has not.

    The whole ``pair``; all of the ``dimension``, which was not asked for or could not be measured; or the ``metric``.
    """

    judged: Judged
    lacks: str


@dataclass(frozen=True)
class Drift:
    """What changed from one audit to the next, each in the order of references.

    ``incomparable`` counts the findings of a dimension whose numbers rest on something else than before:
    (dimension, before, after).
    """

    listings_kept: bool
    new: tuple[str, ...]
    gone: tuple[str, ...]
    described: dict[str, dict[str, Change]]
    artifacts: dict[str, Change]
    pairs: dict[Pair, Change]
    appeared: dict[Identity, Alone]
    vanished: dict[Identity, Alone]
    moved: dict[Identity, Movement]
    incomparable: dict[tuple[str, str | None, str | None], int]
    unchanged: int

    def __bool__(self) -> bool:
        """Whether anything changed; what could not be compared has not been seen to change."""
        listed = self.new or self.gone or self.described or self.artifacts
        return bool(listed or self.pairs or self.appeared or self.vanished or self.moved)


def drift(before: Snapshot, after: Snapshot) -> Drift:
    """Return what changed from one audit to another."""
    kept = before.listings is not None and after.listings is not None
    old = (before.listings or {}) if kept else before.compared()
    new = (after.listings or {}) if kept else after.compared()
    moved: dict[Identity, Movement] = {}
    incomparable: Counter[tuple[str, str | None, str | None]] = Counter()
    both = sorted(before.findings.keys() & after.findings.keys())
    for identity in both:
        then, now = before.findings[identity], after.findings[identity]
        if not comparable(identity.dimension, then, now):
            incomparable[identity.dimension, then.basis, now.basis] += 1
        elif why := reasons(identity.dimension, then, now):
            moved[identity] = Movement(then, now, why)
    return Drift(
        listings_kept=kept,
        new=tuple(sorted(new.keys() - old.keys())),
        gone=tuple(sorted(old.keys() - new.keys())),
        described={ref: fields for ref, fields in _in_both(old, new, _fields).items() if fields},
        artifacts=_in_both(before.artifacts, after.artifacts, Change),
        pairs=_in_both(before.pairs, after.pairs, Change),
        appeared=_only(after.findings, before),
        vanished=_only(before.findings, after),
        moved=moved,
        incomparable=dict(incomparable),
        unchanged=len(both) - len(moved) - sum(incomparable.values()),
    )


def comparable(dimension: str, before: Judged, after: Judged) -> bool:
    """Whether two judgements rest on the same: latency on one machine, accuracy on the same items."""
    if before == after:
        return True
    known = before.basis is not None or dimension != Dimension.LATENCY
    return known and before.basis == after.basis


def reasons(dimension: str, before: Judged, after: Judged) -> tuple[str, ...]:
    """Say why a finding counts as moved, empty when it does not.

    ``verdict``: it was inside the margin and is outside, or the other way. ``evidence``: one of the two audits could
    not decide. ``effect``: the intervals do not overlap, and the effect changed by more than the margin,
    the larger of the two if the policy changed meanwhile; that of latency is one of the logarithm, as in judging.
    """
    found = []
    if before.verdict != after.verdict:
        found.append("evidence" if Place.INCONCLUSIVE in {before.verdict, after.verdict} else "verdict")
    if _apart(before.interval, after.interval) and _change(dimension, before, after) > _margin(
        dimension, before, after
    ):
        found.append("effect")
    return tuple(found)


def _apart(one: Interval | None, other: Interval | None) -> bool:
    if one is None or other is None:
        return False
    return one[1] < other[0] or other[1] < one[0]


def _change(dimension: str, before: Judged, after: Judged) -> float:
    """Size of the change of the effect; 0 when one of them has no number."""
    if before.effect is None or after.effect is None or before.effect == after.effect:
        return 0.0
    ends = (before.effect, after.effect)
    if dimension == Dimension.LATENCY:
        if min(ends) <= -1:
            return 0.0
        ends = (math.log1p(ends[0]), math.log1p(ends[1]))
    size = abs(ends[1] - ends[0])
    return 0.0 if math.isnan(size) else size


def _margin(dimension: str, before: Judged, after: Judged) -> float:
    margin = max(before.margin or 0.0, after.margin or 0.0)
    return math.log1p(margin) if dimension == Dimension.LATENCY else margin


def _fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Change]:
    names = sorted(before.keys() | after.keys())
    pairs = {name: Change(before.get(name), after.get(name)) for name in names}
    return {name: change for name, change in pairs.items() if change.before != change.after}


def _in_both(
    before: Mapping[Key, Value], after: Mapping[Key, Value], make: Callable[[Value, Value], Made]
) -> dict[Key, Made]:
    """Return ``make(before, after)`` of everything that is in both and differs, in order."""
    keys = sorted(before.keys() & after.keys())
    return {key: make(before[key], after[key]) for key in keys if before[key] != after[key]}


def _only(findings: Mapping[Identity, Judged], other: Snapshot) -> dict[Identity, Alone]:
    """Return the findings that the other audit lacks."""
    dimensions = {(identity.pair, identity.dimension) for identity in other.findings}
    found = {}
    for identity in sorted(findings.keys() - other.findings.keys()):
        lacks = "metric"
        if identity.pair not in other.pairs:
            lacks = "pair"
        elif (identity.pair, identity.dimension) not in dimensions:
            lacks = "dimension"
        found[identity] = Alone(findings[identity], lacks)
    return found
