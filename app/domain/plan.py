"""Which jobs a comparison or an audit needs, and in what order. Pure: nothing is stored or measured here."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from app.domain import points
from app.domain.policies import Dimension, Policy
from app.domain.references import FILE, NO_WEIGHTS, RECORDED, UNTRAINED, UPLOAD
from app.domain.states import JobKind
from app.domain.teams import SHARED

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection, Iterable, Sequence

    from app.domain.points import OperatingPoint
    from app.domain.references import Reference


@dataclass(frozen=True)
class Subject:
    """A listing as the engine is asked for it.

    ``folder`` is set for a team's own zoo. ``contract`` holds the fields of its input contract that are overridden.
    """

    ref: str
    zoo: str
    name: str
    weights: str | None
    folder: str | None = None
    contract: dict[str, Any] | None = None

    @classmethod
    def of(cls, reference: Reference, folder: str | None) -> Subject:
        """Return the subject behind a parsed reference."""
        return cls(str(reference), reference.zoo, reference.name, reference.weights, folder)

    @property
    def is_model(self) -> bool:
        """Whether there is a model to load; of the others only imported predictions are known."""
        return self.zoo != RECORDED

    @property
    def team(self) -> str | None:
        """Whose jobs on it are: any team's for what a zoo publishes; None, the asking team's, for files and folders."""
        published = self.folder is None and self.zoo not in {FILE, RECORDED, UPLOAD}
        return SHARED if published else None

    @property
    def answers(self) -> str:
        """What its predictions are known by: the reference, and the contract where that is not its own."""
        if self.contract is None:
            return self.ref
        digest = hashlib.sha256(json.dumps(self.contract, sort_keys=True).encode()).hexdigest()
        return f"{self.ref} with contract {digest}"

    def to_json(self) -> dict[str, Any]:
        """Return this subject as JSON."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Subject:
        """Read ``to_json``'s form."""
        return cls(**value)


@dataclass(frozen=True)
class Scope:
    """What is asked of every pair: dimensions, data set, policy and the time to spend on latency.

    Latency is measured at ``operating_points``, accuracy on ``accuracy_runtime`` and ``accuracy_device`` (``cpu`` or
    ``cuda``).
    ``errors`` says why a dimension that was asked for is not measured, as ``{"class", "code", "message"}`` by
    dimension; the comparison's answer repeats it. ``contracts`` holds the overridden fields of the sides' input
    contracts, by side (``a``, ``b``).
    """

    dimensions: tuple[Dimension, ...]
    policy: Policy
    dataset: dict[str, Any] | None = None
    latency_budget_s: float = 60.0
    operating_points: tuple[OperatingPoint, ...] = points.DEFAULT
    accuracy_runtime: str = "onnxruntime"
    accuracy_device: str = "cpu"
    errors: dict[str, Any] = field(default_factory=dict)
    contracts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return this scope as JSON."""
        return {
            "dimensions": [str(dimension) for dimension in self.dimensions],
            "policy": self.policy.to_json(),
            "dataset": self.dataset,
            "latency_budget_s": self.latency_budget_s,
            "operating_points": [point.to_json() for point in self.operating_points],
            "accuracy_runtime": self.accuracy_runtime,
            "accuracy_device": self.accuracy_device,
            "errors": self.errors,
            "contracts": self.contracts,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Scope:
        """Read ``to_json``'s form."""
        return cls(
            dimensions=tuple(Dimension(dimension) for dimension in value["dimensions"]),
            policy=Policy.from_json(value["policy"]),
            dataset=value["dataset"],
            latency_budget_s=value["latency_budget_s"],
            # Scopes stored before there were operating points have none.
            operating_points=points.read_all(value["operating_points"])
            if "operating_points" in value
            else points.DEFAULT,
            accuracy_runtime=value.get("accuracy_runtime", "onnxruntime"),
            accuracy_device=value.get("accuracy_device", "cpu"),
            errors=value["errors"],
            contracts=value.get("contracts", {}),
        )

    def without(self, dimension: Dimension, *, code: str, message: str) -> Scope:
        """Return this scope less one dimension, and why it is not measured."""
        error = {"class": "usage", "code": code, "message": message}
        return replace(
            self,
            dimensions=tuple(item for item in self.dimensions if item is not dimension),
            errors=self.errors | {str(dimension): error},
        )


@dataclass(frozen=True)
class JobSpec:
    """A job to be stored. ``needs`` maps a role to the handle of the job that must have ended before.

    Active jobs with the same ``work_key`` and ``team`` are one job, whoever asked for it. ``team`` is whose it is, None
    the team's that asks: only what any team may know is shared by all. Of ``exclusive`` jobs one runs at a time on each
    device. ``device`` is the class of workers that can run it, and the name of their queue. ``id`` is given where it
    has to be known before the job is stored.
    """

    handle: str
    kind: JobKind
    payload: dict[str, Any]
    needs: dict[str, str] = field(default_factory=dict)
    work_key: str | None = None
    exclusive: bool = False
    priority: int = 0
    device: str = "cpu"
    team: str | None = None
    id: uuid.UUID | None = None


def measurements(
    subjects: Sequence[Subject],
    scope: Scope,
    *,
    share: str,
    predicted: Collection[str] | None = None,
    imported: Collection[str] = (),
) -> list[JobSpec]:
    """Return the measuring jobs of one group of listings: each is measured once, all are timed together.

    ``share`` keeps groups of different comparisons or audits apart where a measurement belongs to one group only.
    ``predicted`` holds the references that are run over the data set; None means all of them but those ``imported``,
    whose predictions are there already.
    """
    loaded = [subject for subject in subjects if _loaded(subject, scope, imported)]
    unique = list({subject.ref: replace(subject, contract=None) for subject in loaded}.values())
    jobs = [
        JobSpec(
            f"inspect {subject.ref}",
            JobKind.INSPECT,
            {"listing": subject.to_json()},
            work_key=f"inspect {subject.ref}",
            priority=1,
            team=subject.team,
        )
        for subject in unique
    ]
    if Dimension.ACCURACY in scope.dimensions and scope.dataset is not None:
        jobs += [
            _predict(subject, scope, scope.dataset)
            for subject in {subject.answers: subject for subject in loaded}.values()
            if subject.ref not in imported and (predicted is None or subject.ref in predicted)
        ]
    if Dimension.LATENCY in scope.dimensions:
        jobs.append(
            JobSpec(
                f"latency {share}",
                JobKind.LATENCY,
                {
                    "listings": [replace(subject, contract=None).to_json() for subject in subjects],
                    "points": [point.to_json() for point in scope.operating_points],
                    "budget_s": scope.latency_budget_s,
                    "margin": scope.policy.latency_margin,
                },
                needs={f"inspect {subject.ref}": f"inspect {subject.ref}" for subject in unique},
                exclusive=True,
                priority=2,
                # One machine for all points, so that they compare: one with a GPU has a CPU too.
                device=_WORKERS["cuda" if any(point.device == "cuda" for point in scope.operating_points) else "cpu"],
            )
        )
    return jobs


def _predict(subject: Subject, scope: Scope, dataset: dict[str, Any]) -> JobSpec:
    runtime, device = scope.accuracy_runtime, scope.accuracy_device
    return JobSpec(
        predict_handle(subject.answers),
        JobKind.PREDICT,
        {"listing": subject.to_json(), "dataset": dataset, "runtime": runtime, "device": device},
        needs={"inspect": f"inspect {subject.ref}"},
        work_key=f"predict {subject.answers} on {_named(dataset)} by {runtime} {device}",
        device=_WORKERS[device],
        team=_team(subject, dataset),
    )


def _named(dataset: dict[str, Any]) -> str:
    """Return what tells a data set from others: of one name each team may have its own."""
    return f"{dataset['name']} of {dataset['team']}" if "team" in dataset else str(dataset["name"])


def _team(subject: Subject, dataset: dict[str, Any]) -> str | None:
    return None if "team" in dataset else subject.team


_WORKERS = {"cpu": "cpu", "cuda": "gpu"}
"""Class of the workers that have a device."""

SHARD_ITEMS = 5120
"""Items in one job. A multiple of every batch, so that each item shares its batch with the same items as in one run."""

_SHARD = "shard "


def shards(payload: dict[str, Any], items: int, *, inspect: str) -> list[JobSpec]:
    """Return the jobs that divide a predict job of this payload; ``inspect`` is the handle of what it needs itself.

    Their handles are the roles under which the predict job needs them (``is_shard``).
    """
    subject, dataset = Subject.from_json(payload["listing"]), payload["dataset"]
    by = f"by {payload['runtime']} {payload['device']}"
    return [
        JobSpec(
            f"{_SHARD}{start}",
            JobKind.SHARD,
            payload | {"start": start, "stop": min(start + SHARD_ITEMS, items)},
            needs={"inspect": inspect},
            work_key=f"shard {subject.answers} on {_named(dataset)} {by} from {start}",
            device=_WORKERS[payload["device"]],
            team=_team(subject, dataset),
        )
        for start in range(0, items, SHARD_ITEMS)
    ]


def is_shard(role: str) -> bool:
    """Whether a needed job is a shard, by its role."""
    return role.startswith(_SHARD)


MANY = 100
"""Pairs in one job where comparing is a matter of milliseconds."""


def comparisons_of_predictions(comparison_ids: Sequence[str], refs: Collection[str]) -> list[JobSpec]:
    """Return the jobs that compare pairs by predictions alone, after those under ``predict_handle`` of ``refs``."""
    needs = {predict_handle(ref): predict_handle(ref) for ref in refs}
    return [
        JobSpec(
            f"compare many {start}",
            JobKind.COMPARE_MANY,
            {"comparison_ids": list(comparison_ids[start : start + MANY])},
            needs,
            priority=3,
        )
        for start in range(0, len(comparison_ids), MANY)
    ]


def _loaded(subject: Subject, scope: Scope, imported: Collection[str]) -> bool:
    """Whether a listing has to be loaded at all: not for predictions that are there already."""
    only_accuracy = set(scope.dimensions) <= {Dimension.ACCURACY}
    return subject.is_model and not (only_accuracy and subject.ref in imported)


def predict_handle(answers: str) -> str:
    """Return the handle of the job that has predictions (``Subject.answers``), measured or imported."""
    return f"predict {answers}"


def comparison(
    comparison_id: str, a: Subject, b: Subject, scope: Scope, *, share: str, imported: Collection[str] = ()
) -> JobSpec:
    """Return the job that compares a pair, after the measuring jobs of its group (``measurements``).

    What is ``imported`` has a job under ``predict_handle`` already.
    """
    needs = {}
    for side, subject in (("a", a), ("b", b)):
        if _loaded(subject, scope, imported):
            needs[f"{side}.inspect"] = f"inspect {subject.ref}"
        if Dimension.ACCURACY in scope.dimensions and scope.dataset is not None:
            needs[f"{side}.predict"] = predict_handle(subject.answers)
    if Dimension.LATENCY in scope.dimensions:
        needs["latency"] = f"latency {share}"
    return JobSpec(f"compare {comparison_id}", JobKind.COMPARE, {"comparison_id": comparison_id}, needs, priority=3)


@dataclass(frozen=True)
class Candidate:
    """A listing that an audit may pick: what the catalogue says of it."""

    subject: Subject
    architecture: str
    default: bool


DEFAULT_WEIGHTS = "default"
"""Asks each zoo for its own default tag."""


def pick(candidates: Iterable[Candidate], weights: str) -> dict[str, list[Candidate]]:
    """Pick one listing a zoo and architecture key, of the weights tag asked for.

    ``weights`` is ``default`` (the zoo's own default, else any), ``none`` (nothing trained, nothing to download) or
    another tag; listings of other tags are left out. Returns the picked ones by architecture key, keys that only one
    zoo has left out, in the order of the keys.
    """
    best: dict[tuple[str, str], Candidate] = {}
    for candidate in candidates:
        place = (candidate.architecture, candidate.subject.zoo)
        if _has(candidate, weights) and (place not in best or _rank(candidate) > _rank(best[place])):
            best[place] = candidate
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for (architecture, _), candidate in sorted(best.items()):
        groups[architecture].append(candidate)
    return {key: group for key, group in groups.items() if len(group) > 1}


def _has(candidate: Candidate, weights: str) -> bool:
    tag = candidate.subject.weights
    return weights in (DEFAULT_WEIGHTS, tag) or (weights == NO_WEIGHTS and tag in UNTRAINED)


def _rank(candidate: Candidate) -> tuple[bool, bool, int]:
    trained = candidate.subject.weights not in UNTRAINED
    # Of names that tie, the shortest is the zoo's plain spelling.
    return (trained, candidate.default, -len(candidate.subject.name))


def pairs(group: Sequence[Candidate]) -> list[tuple[Candidate, Candidate]]:
    """Return the pairs of a group, in its order."""
    return list(combinations(group, 2))
