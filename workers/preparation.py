"""Turns a claimed job into what the engine is asked, from what the jobs that it needed have left."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from app.db import datasets, jobs, predictions
from app.db.tables import Comparison, Measurement
from app.domain.answer import effective
from app.domain.contracts import InvalidContractError
from app.domain.plan import SHARD_ITEMS, Scope, is_shard, predict_handle
from app.domain.policies import Dimension
from app.domain.references import FILE, UNTRAINED, UPLOAD
from app.domain.states import FailureClass, JobKind, State
from workers import environment
from workers.execution import execution
from workers.failures import AttemptFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from app.db.jobs import Claim
    from app.db.tables import Job
    from workers.files import FileStore

PROTOCOL = 1
"""Version of what the operations do; a measurement of another version is not used again."""

AUDIT_PROOF_MACS = 10_000_000_000
"""Models up to this size are run for a proof within an audit, whose pairs are many; a comparison of its own runs all
that the engine can."""

_STRUCTURE = {"op": "structure", "protocol": PROTOCOL}
_FILES = "onnx"
"""The zoo that publishes files and no code to build them."""

_PREDICT_PROTOCOL = 2
"""Version of how a model is run over a data set; 2 frees batches and keeps a summary of the logits."""

_LEAST_TIMED = 2


@dataclass(frozen=True)
class Work:
    """What to ask the engine.

    ``what`` names the subject in messages. ``request`` is None when there is nothing to ask. ``fetch`` is the subject
    to download first. ``reusable`` says whether an earlier measurement of the same ``key`` is as good as a new one.
    ``budget_s`` is added to the engine's time limit. ``errors`` says why a dimension of a comparison cannot be had.
    ``operation`` is what the engine is asked for, None where it has the name of the job's kind.
    """

    what: str
    request: dict[str, Any] | None
    protocol: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    reusable: bool = False
    fetch: dict[str, Any] | None = None
    artifact: str | None = None
    budget_s: float = 0.0
    errors: dict[str, Any] = field(default_factory=dict)
    operation: str | None = None


def prepare(session: Session, claim: Claim, files: FileStore) -> Work:
    """Return the work of a claimed job; raises AttemptFailedError when a job that it needs failed."""
    kinds: dict[str, Callable[[Session, Claim, FileStore], Work]] = {
        JobKind.CATALOG: _catalog,
        JobKind.INSPECT: _inspect,
        JobKind.STRUCTURE: _structure,
        JobKind.IMPORT: _import,
        JobKind.PREDICT: _predict,
        JobKind.SHARD: _shard,
        JobKind.LATENCY: _latency,
        JobKind.COMPARE: _compare,
        JobKind.COMPARE_MANY: _compare_many,
    }
    return kinds[claim.kind](session, claim, files)


def measurement_key(kind: str, subject: str, protocol: dict[str, Any]) -> str:
    """SHA-256 of what makes two measurements the same: kind, subject, protocol and package versions."""
    identity = {"kind": kind, "subject": subject, "protocol": protocol, "versions": environment.versions()}
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _catalog(session: Session, claim: Claim, files: FileStore) -> Work:
    del session, files
    zoo = claim.payload["zoo"]
    return Work(f"Listing {zoo}", {"zoo": zoo, "folder": claim.payload.get("folder")})


def _inspect(session: Session, claim: Claim, files: FileStore) -> Work:
    del session
    subject = claim.payload["listing"]
    protocol = {"op": "inspect", "protocol": PROTOCOL}
    own_content = subject["zoo"] != FILE and subject["folder"] is None
    return Work(
        subject["ref"],
        {"subject": located(subject, files)},
        protocol,
        measurement_key("inspect", subject["ref"], protocol),
        reusable=own_content,
        fetch=subject if own_content and _is_published(subject) else None,
    )


def located(subject: dict[str, Any], files: FileStore) -> dict[str, Any]:
    """Return a subject with the place of its file, which only workers know, in the place of its folder.

    Raises AttemptFailedError for a bare file of the data folder, which may be another team's.
    """
    if subject["zoo"] == FILE and files.holds(subject["name"]):
        raise AttemptFailedError(
            FailureClass.USAGE,
            "in-data-folder",
            f"{subject['ref']} lies in the service's own data folder; copy the file elsewhere, or upload it.",
        )
    return subject | {"folder": str(files.upload(subject["name"]))} if subject["zoo"] == UPLOAD else subject


def _is_published(subject: dict[str, Any]) -> bool:
    """Whether the weights are somewhere else and have to be fetched."""
    return subject["zoo"] != UPLOAD and subject["weights"] not in UNTRAINED and not _is_light(subject)


def _is_light(subject: dict[str, Any]) -> bool:
    return subject["zoo"] == _FILES and subject["name"].startswith("light_")


def structure_key(subject: dict[str, Any]) -> str | None:
    """Return the key of a subject's structure; None where its content may change behind the reference."""
    if subject["zoo"] == FILE or subject["folder"] is not None:
        return None
    return measurement_key("structure", subject["ref"], _STRUCTURE)


def _structure(session: Session, claim: Claim, files: FileStore) -> Work:
    del session, files
    subject = claim.payload["listing"]
    key = structure_key(subject)
    # Of a zoo of files the file is all there is; the others build a structure from their own code.
    in_file = subject["zoo"] == _FILES and not _is_light(subject)
    return Work(
        subject["ref"],
        {"subject": subject},
        _STRUCTURE,
        key or measurement_key("structure", f"{subject['ref']} {claim.id}", _STRUCTURE),
        reusable=key is not None,
        fetch=subject if in_file else None,
    )


def _import(session: Session, claim: Claim, files: FileStore) -> Work:
    payload = claim.payload
    dataset = datasets.by_name(session, payload["dataset"])
    known = predictions.an_answer(session, dataset.id) if dataset is not None else None
    protocol = {"op": "import", "protocol": PROTOCOL, "dataset": payload["dataset"], "path": payload["path"]}
    return Work(
        f"{payload['listing']['ref']} on {payload['dataset']}",
        {
            "path": payload["path"],
            "dataset": payload["dataset"],
            "label_space": payload["label_space"],
            "known": None if known is None else str(files.path(known.files["predictions"])),
            "known_label_space": None if dataset is None else dataset.label_space,
            "known_classes": None if dataset is None or dataset.format == datasets.RECORDED else dataset.classes,
        },
        protocol,
        measurement_key("import", str(claim.id), protocol),
    )


def _predict(session: Session, claim: Claim, files: FileStore) -> Work:
    work = _run_over(session, claim, files, {"op": "predict"})
    shards = {role: job for role, job in jobs.needs(session, claim.id).items() if is_shard(role)}
    if not shards:
        return replace(work, request=(work.request or {}) | {"at_most": SHARD_ITEMS})
    answered = [measured(session, job) for job in shards.values()]
    request = {
        "dataset": _without_team(claim.payload["dataset"]),
        "shards": [
            {
                "answers": str(files.path(shard.files["answers"])),
                "provenance": shard.values["provenance"],
                "self_noise": shard.values["self_noise"],
            }
            for shard in answered
        ],
    }
    return replace(work, request=request, operation="merge")


def _shard(session: Session, claim: Claim, files: FileStore) -> Work:
    part = {name: claim.payload[name] for name in ("start", "stop")}
    work = _run_over(session, claim, files, {"op": "shard"} | part)
    return replace(work, request=(work.request or {}) | part)


def _run_over(session: Session, claim: Claim, files: FileStore, what: dict[str, Any]) -> Work:
    """Return the work of running a listing over its data set; ``what`` is added to the protocol."""
    subject = claim.payload["listing"]
    inspected = measured(session, jobs.needs(session, claim.id)["inspect"])
    listing = inspected.values["listing"]
    try:
        contract = effective(inspected.values, subject.get("contract"))
    except InvalidContractError as error:
        raise AttemptFailedError(FailureClass.USAGE, "contract", str(error)) from error
    if contract is None:
        raise AttemptFailedError(
            FailureClass.USAGE,
            "contract-unknown",
            f"{subject['ref']} has no documented input contract, so its accuracy cannot be measured fairly; list it in "
            "a zoo.toml with its [input], give one (--contract-a, --contract-b), or leave accuracy out.",
        )
    request = {
        "dataset": claim.payload["dataset"],
        "contract": contract,
        "label_space": listing["label_space"],
        "execution": execution(claim.payload, inspected.values["input_shape"]),
    }
    # Its team tells a data set from another team's of the same name, and is nothing to the engine.
    protocol = what | {"protocol": _PREDICT_PROTOCOL} | request
    request = request | {"dataset": _without_team(claim.payload["dataset"])}
    return Work(
        subject["ref"],
        request | {"subject": located(subject, files), "model": str(files.path(inspected.files["model"]))},
        protocol,
        # The runnable file, not the artifact: a team's builder may change around the same weights.
        measurement_key(what["op"], inspected.files["model"], protocol),
        reusable=True,
        artifact=inspected.artifact_sha256,
    )


def _without_team(dataset: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in dataset.items() if name != "team"}


def _latency(session: Session, claim: Claim, files: FileStore) -> Work:
    payload = claim.payload
    needed = jobs.needs(session, claim.id)
    entries, failed = [], []
    for subject in payload["listings"]:
        try:
            inspected = measured(session, needed[f"inspect {subject['ref']}"])
        except AttemptFailedError as error:
            failed.append(error)
            continue
        entries.append(
            {
                "subject": located(subject, files),
                "model": str(files.path(inspected.files["model"])),
                "input_shape": inspected.values["input_shape"],
                "contract": inspected.values["listing"].get("contract"),
            }
        )
    if len(entries) < _LEAST_TIMED:
        raise (
            failed[0]
            if failed
            else AttemptFailedError(
                FailureClass.USAGE, "nothing-to-measure", "Latency is a ratio: it needs at least two listings."
            )
        )
    seed = claim.id.int % 2**32
    protocol = {name: payload[name] for name in ("points", "budget_s", "margin")}
    protocol |= {"op": "latency", "protocol": PROTOCOL, "seed": seed}
    refs = ", ".join(entry["subject"]["ref"] for entry in entries)
    request = {name: protocol[name] for name in ("points", "budget_s", "margin", "seed")}
    return Work(
        refs,
        request | {"entries": entries},
        protocol,
        measurement_key("latency", f"{refs} {claim.id}", protocol),
        budget_s=payload["budget_s"],
    )


def _compare(session: Session, claim: Claim, files: FileStore) -> Work:
    comparison = session.get_one(Comparison, uuid.UUID(claim.payload["comparison_id"]))
    asked = Scope.from_json(comparison.scope).dimensions
    needed = jobs.needs(session, claim.id)
    errors: dict[str, Any] = {}
    sides: dict[str, dict[str, Any]] = {}
    for side in ("a", "b"):
        sides[side] = {"ref": comparison.a_ref if side == "a" else comparison.b_ref}
        sides[side] |= dict.fromkeys(("graph", "model", "predictions"))
        if f"{side}.inspect" in needed and Dimension.ARCHITECTURE in asked:
            try:
                inspected = measured(session, needed[f"{side}.inspect"])
                names = ("graph", "model") if _runs_proof(comparison, inspected) else ("graph",)
                sides[side] |= {name: str(files.path(inspected.files[name])) for name in names}
            except AttemptFailedError as error:
                if error.failure_class is not FailureClass.UNSAFE:
                    raise
                errors.setdefault(str(Dimension.ARCHITECTURE), error.to_json())
        if f"{side}.predict" in needed:
            try:
                predicted = measured(session, needed[f"{side}.predict"])
                sides[side]["predictions"] = str(files.path(predicted.files["predictions"]))
            except AttemptFailedError as error:
                errors.setdefault(str(Dimension.ACCURACY), error.to_json())
    wanted = any(sides["a"][name] and sides["b"][name] for name in ("graph", "predictions"))
    what = f"Comparing {comparison.a_ref} with {comparison.b_ref}"
    return Work(what, dict(sides) if wanted else None, errors=errors)


def _compare_many(session: Session, claim: Claim, files: FileStore) -> Work:
    wanted = [uuid.UUID(each) for each in claim.payload["comparison_ids"]]
    rows = list(session.scalars(select(Comparison).where(Comparison.id.in_(wanted))))
    needed = jobs.needs(session, claim.id)
    refs = {ref for row in rows for ref in (row.a_ref, row.b_ref)}
    answers = {ref: measured(session, needed[predict_handle(ref)]) for ref in sorted(refs)}
    request = {
        "files": {ref: str(files.path(answer.files["predictions"])) for ref, answer in answers.items()},
        "pairs": [[str(row.id), row.a_ref, row.b_ref] for row in rows],
    }
    return Work(f"Comparing {len(rows)} pairs", request)


def _runs_proof(comparison: Comparison, inspected: Measurement) -> bool:
    """Whether to run both models for a proof that they compute the same; an audit leaves the largest out."""
    return comparison.audit_id is None or inspected.values["macs"] <= AUDIT_PROOF_MACS


def measured(session: Session, job: Job) -> Measurement:
    """Return what a needed job measured; raises AttemptFailedError with that job's own error when it did not."""
    if job.state == State.SUCCEEDED and job.measurement_id is not None:
        return session.get_one(Measurement, job.measurement_id)
    if job.error is not None and job.state == State.FAILED:
        raise AttemptFailedError.from_json(job.error)
    listing = (job.payload.get("listing") or {}).get("ref", "")
    raise AttemptFailedError(
        FailureClass.USAGE, "cancelled", f"The {job.kind} of {listing} was cancelled; ask for the comparison again."
    )


def earlier(session: Session, work: Work, kind: str, files: FileStore) -> Measurement | None:
    """Return the latest measurement that makes this work unnecessary, all of its files still there."""
    if not work.reusable:
        return None
    same = select(Measurement).where(Measurement.key == work.key, Measurement.kind == kind)
    kept = same.where(Measurement.files_deleted_at.is_(None)).order_by(Measurement.created_at.desc())
    # Locked against the keeper, which deletes files that nobody uses, and no one else.
    found = session.scalar(kept.limit(1).with_for_update(read=True))
    if found is None or not all(files.path(sha256).is_file() for sha256 in found.files.values()):
        return None
    return found
