"""Stores how an attempt ended, in one transaction that begins with the fence."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import IntegrityError

from app.db import audits, comparisons, datasets, fingerprints, jobs, latency_runs, listings, predictions, safety
from app.db.tables import Artifact, Comparison, Job, Measurement
from app.domain import answer, changes, latency, unsafe
from app.domain.ids import new_id
from app.domain.plan import Scope, predict_handle, shards
from app.domain.policies import Dimension
from app.domain.states import FailureClass, JobKind, State
from app.domain.teams import SHARED
from workers import environment
from workers.failures import AttemptFailedError, CancelledError
from workers.preparation import measured, structure_key

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.db.jobs import Claim
    from workers.preparation import Work


_CANCELLED = {
    "class": "usage",
    "code": "cancelled",
    "message": "The reading of the zoo's catalog was cancelled; ask for the index again.",
}


def measurement(session: Session, claim: Claim, work: Work, result: dict[str, Any], files: dict[str, str]) -> None:
    """Store a measurement with its artifact and data set, and end its job. ``files`` maps roles to SHA-256.

    Raises LeaseLostError, and ConflictError when a data set is not what it was.
    """
    jobs.take_to_finish(session, claim)
    values = dict(result)
    confinement = values.pop("confinement")
    artifact, dataset = work.artifact, None
    if claim.kind == JobKind.INSPECT:
        artifact = values["artifact"]["sha256"]
        _keep_artifact(session, values["artifact"])
        safety.forget(session, values["listing"]["ref"])
    if claim.kind == JobKind.PREDICT:
        dataset = datasets.fill(
            session,
            values["dataset"],
            team=claim.payload["dataset"].get("team", SHARED),
            items=values["items"],
            classes=values["classes"],
            digest=values["dataset_digest"],
            labels_digest=values["labels_digest"],
            label_space=values["label_space"],
        )
    if claim.kind == JobKind.IMPORT:
        dataset = datasets.join(
            session,
            values["dataset"],
            items=values["items"],
            classes=values["classes"],
            labels_digest=values["labels_digest"],
            label_space=values["label_space"],
        )
    row = Measurement(
        id=new_id(),
        kind=claim.kind,
        key=work.key,
        subject=work.what[:2000],
        artifact_sha256=artifact,
        protocol=work.protocol,
        environment=environment.record() | {"confinement": confinement},
        values=values,
        files=files,
        job_id=claim.id,
    )
    session.add(row)
    session.flush()
    if claim.kind == JobKind.STRUCTURE:
        keep_structure(session, claim, row)
    if claim.kind == JobKind.LATENCY:
        latency_runs.keep(session, row, _timed(session, claim))
    # Answers to pictures prepared otherwise are the comparison's own: a list of the model's answers leaves them out.
    if dataset is not None and claim.payload["listing"].get("contract") is None:
        ref, recorded = claim.payload["listing"]["ref"], claim.kind == JobKind.IMPORT
        predictions.keep(session, ref=ref, dataset=dataset, recorded=recorded, measured=row)
    jobs.succeed(session, claim, measurement_id=row.id)


def _timed(session: Session, claim: Claim) -> dict[str, latency_runs.Timed]:
    """Return the listings that a latency job was given, by the reference that they were asked for by."""
    needed = jobs.needs(session, claim.id)
    found = {}
    for asked in (subject["ref"] for subject in claim.payload["listings"]):
        if inspected := _measured(session, needed[f"inspect {asked}"]):
            found[asked] = latency_runs.Timed(inspected.values["listing"]["ref"], inspected.artifact_sha256)
    return found


def keep_structure(session: Session, claim: Claim, row: Measurement) -> None:
    """Store a measured structure for all listings that share it."""
    values = row.values
    fingerprints.keep(
        session,
        claim.payload["alike"],
        subject=row.subject,
        key=row.key,
        found=fingerprints.Structured(values["fingerprint"], values["vector"], values["counts"]["nodes"]),
        measurement_id=row.id,
    )


def divided(session: Session, claim: Claim, *, items: int) -> None:
    """Divide a predict job whose data set has too many items: it waits for its shards.

    Raises LeaseLostError, and CancelledError when nobody wants it any more.
    """
    jobs.take_to_finish(session, claim)
    if session.get_one(Job, claim.id, populate_existing=True).cancel_requested:
        raise CancelledError
    inspect = jobs.needs(session, claim.id)["inspect"]
    specs = shards(claim.payload, items, inspect="inspect")
    owner = {"comparison_id": claim.comparison_id, "audit_id": claim.audit_id}
    ids = jobs.add(session, specs, known={"inspect": inspect.id}, **owner)
    jobs.wait_for(session, claim, {spec.handle: ids[spec.handle] for spec in specs})


def _keep_artifact(session: Session, value: dict[str, Any]) -> None:
    """Add an artifact unless it is known; two workers may find the same bytes at once."""
    if session.get(Artifact, value["sha256"]) is not None:
        return
    try:
        with session.begin_nested():
            session.add(Artifact(**value))
            session.flush()
    except IntegrityError:
        return


def catalog(session: Session, claim: Claim, result: dict[str, Any]) -> None:
    """Store a zoo's listings and end the job. Raises LeaseLostError."""
    jobs.take_to_finish(session, claim)
    listings.replace_catalog(session, result["zoo"], result["version"], result["listings"])
    jobs.succeed(session, claim)


def expanded(session: Session, claim: Claim) -> None:
    """Expand an audit and end the job. Raises LeaseLostError."""
    jobs.take_to_finish(session, claim)
    audits.expand(session, uuid.UUID(claim.payload["audit_id"]))
    jobs.succeed(session, claim)


def indexed(session: Session, claim: Claim) -> None:
    """Add the structure jobs of a zoo and end the job.

    Raises LeaseLostError, and AttemptFailedError when the zoo's catalog could not be read.
    """
    jobs.take_to_finish(session, claim)
    for catalog in jobs.needs(session, claim.id).values():
        if catalog.state != State.SUCCEEDED:
            raise AttemptFailedError.from_json(catalog.error or _CANCELLED)
    fingerprints.expand(
        session,
        claim,
        zoo=claim.payload["zoo"],
        folder=claim.payload["folder"],
        retry=claim.payload["retry"],
        key_of=lambda subject: structure_key(subject.to_json()),
    )
    jobs.succeed(session, claim)


def concluded(session: Session, claim: Claim) -> None:
    """Close an audit and end the job. Raises LeaseLostError."""
    jobs.take_to_finish(session, claim)
    audits.conclude(session, uuid.UUID(claim.payload["audit_id"]))
    jobs.succeed(session, claim)


def compared(session: Session, claim: Claim, work: Work, result: dict[str, Any], files: dict[str, str]) -> None:
    """Judge a comparison, store its answer and findings, and end the job. ``files`` maps roles to SHA-256.

    Raises LeaseLostError, and AttemptFailedError when none of the dimensions asked for was measured.
    """
    jobs.take_to_finish(session, claim)
    comparison = session.get_one(Comparison, uuid.UUID(claim.payload["comparison_id"]))
    scope = Scope.from_json(comparison.scope)
    needed = jobs.needs(session, claim.id)
    blocks = {name: result.get(name) for name in ("architecture", "accuracy")}
    if blocks["architecture"]:
        blocks["architecture"]["diagram"] |= {"sha256": files.get("diagram")}
    errors = scope.errors | work.errors | result.get("errors", {})
    if Dimension.LATENCY in scope.dimensions:
        try:
            blocks["latency"] = _latency(session, needed["latency"], comparison)
        except AttemptFailedError as error:
            errors = errors | {str(Dimension.LATENCY): error.to_json()}
    if not any(blocks.values()) and not changes.seen(errors) and not unsafe.seen(errors):
        reason = next(iter(errors.values()), None)
        if reason is None:
            raise AttemptFailedError(FailureClass.USAGE, "nothing-measured", "No dimension was left to be measured.")
        raise AttemptFailedError.from_json(reason)
    sides = [
        _side(session, ref, needed.get(f"{side}.inspect"), needed.get(f"{side}.predict"), scope.contracts.get(side))
        for side, ref in (("a", comparison.a_ref), ("b", comparison.b_ref))
    ]
    built = answer.build(*sides, measured=blocks, errors=errors, policy=scope.policy, asked=scope.dimensions)
    comparisons.succeed(session, comparison.id, built)
    jobs.succeed(session, claim)


def compared_many(session: Session, claim: Claim, result: dict[str, Any]) -> None:
    """Judge pairs that were compared by their predictions alone, store them, and end the job. Raises LeaseLostError."""
    jobs.take_to_finish(session, claim)
    needed = jobs.needs(session, claim.id)
    sides: dict[str, answer.Side] = {}
    for each in claim.payload["comparison_ids"]:
        comparison = session.get_one(Comparison, uuid.UUID(each))
        if each in result["errors"]:
            comparisons.fail(session, comparison.id, result["errors"][each])
            continue
        scope = Scope.from_json(comparison.scope)
        for ref in (comparison.a_ref, comparison.b_ref):
            if ref not in sides:
                sides[ref] = _side(session, ref, None, needed[predict_handle(ref)])
        a, b = sides[comparison.a_ref], sides[comparison.b_ref]
        blocks = {"accuracy": result["pairs"][each]}
        built = answer.build(a, b, measured=blocks, errors=scope.errors, policy=scope.policy, asked=scope.dimensions)
        comparisons.succeed(session, comparison.id, built)
    jobs.succeed(session, claim)


def _side(
    session: Session, ref: str, inspect: Job | None, predict: Job | None, overrides: dict[str, Any] | None = None
) -> answer.Side:
    """Return one side with what was measured of it, and what its zoo claims."""
    inspected, predicted = _measured(session, inspect), _measured(session, predict)
    listing = inspected.values["listing"] if inspected else None
    if listing is None and predict is not None:
        row = listings.by_ref(session, predict.payload["listing"]["ref"])
        listing = {"claims": row.claims} if row else None
    return answer.Side(
        ref,
        inspected.values if inspected else None,
        predicted.values if predicted else None,
        listing["claims"] if listing else (),
        predicted.files["predictions"] if predicted else None,
        overrides,
    )


def _measured(session: Session, job: Job | None) -> Measurement | None:
    """Return what a needed job has measured, None where it was not needed or did not succeed."""
    return None if job is None or job.measurement_id is None else measured(session, job)


def _latency(session: Session, job: Job, comparison: Comparison) -> dict[str, Any]:
    """Return the pair's part of a session; raises AttemptFailedError with the reason when no point has the pair."""
    values = measured(session, job).values
    block = latency.latency_block(values, comparison.a_ref, comparison.b_ref)
    if block["operating_points"]:
        return block
    said = "; ".join(dict.fromkeys(each["reason"] for each in block["not_measured"]))
    raise AttemptFailedError(
        FailureClass.SUBJECT,
        "latency-not-measured",
        f"{comparison.a_ref} and {comparison.b_ref} were not timed together ({said}); choose another runtime.",
    )


def failed(session: Session, claim: Claim, error: AttemptFailedError, *, max_attempts: int) -> State:
    """End a job badly, or queue it again; whatever it would have ended itself, fails with it.

    A listing that is unsafe is kept as that. Returns the job's new state. Raises LeaseLostError.
    """
    found_unsafe = claim.kind == JobKind.INSPECT and error.failure_class is FailureClass.UNSAFE
    if found_unsafe:
        error.evidence = {"ref": claim.payload["listing"]["ref"]} | error.evidence
    state = jobs.fail(session, claim, error.failure_class, error.to_json(), max_attempts=max_attempts)
    if found_unsafe:
        safety.keep(session, claim.payload["listing"], error.to_json(), job_id=claim.id)
    if state is State.FAILED:
        fail_owner(session, claim.kind, claim.payload, error.to_json())
    return state


def fail_owner(session: Session, kind: str, payload: dict[str, Any], error: dict[str, Any]) -> None:
    """Fail what a job of this kind would have ended: a comparison, an audit, the fingerprints of listings."""
    if kind == JobKind.COMPARE:
        comparisons.fail(session, uuid.UUID(payload["comparison_id"]), error)
    elif kind == JobKind.COMPARE_MANY:
        for each in payload["comparison_ids"]:
            comparisons.fail(session, uuid.UUID(each), error)
    elif kind in {JobKind.EXPAND, JobKind.CONCLUDE}:
        audits.fail(session, uuid.UUID(payload["audit_id"]), error)
    elif kind == JobKind.STRUCTURE:
        subject = payload["listing"]
        key = structure_key(subject) or ""
        fingerprints.keep_error(session, payload["alike"], subject=subject["ref"], key=key, error=error)


def cancelled(session: Session, claim: Claim) -> None:
    """End a job whose cancellation was asked for, with what it would have ended. Raises LeaseLostError."""
    jobs.finish_cancelled(session, claim)
    if claim.kind == JobKind.COMPARE:
        comparisons.cancel(session, uuid.UUID(claim.payload["comparison_id"]))
    elif claim.kind in {JobKind.EXPAND, JobKind.CONCLUDE}:
        audits.cancel(session, uuid.UUID(claim.payload["audit_id"]))
