"""Audits as the workers and services see them: expand into comparisons, and what ``audit_rows`` has."""

from __future__ import annotations

import difflib
from collections import defaultdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sqlalchemy import select

from app.db import audit_listings, jobs, recorded_audits
from app.db.audit_rows import LISTED, cancel, closing_jobs, conclude, fail, get, own_jobs, shown
from app.db.listings import of_zoos
from app.db.recorded_audits import NothingToCompareError
from app.db.tables import Audit, Comparison, Job
from app.domain import plan
from app.domain.datasets import fits
from app.domain.ids import new_id
from app.domain.policies import Dimension
from app.domain.references import UNTRAINED
from app.domain.states import FINAL, JobKind, State

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from app.db.tables import Listing

__all__ = ["LISTED", "cancel", "closing_jobs", "conclude", "expand", "fail", "get", "own_jobs", "shown"]


def expand(session: Session, audit_id: uuid.UUID) -> list[uuid.UUID]:
    """Turn an audit into comparisons and their jobs; return the ids of the jobs added or joined.

    Reads the listings of the audit's zoos, picks one a zoo and architecture key, and compares every pair of a key. An
    audit that cannot start (a catalog could not be read, nothing matches) is failed with the reason; the list is then
    empty. Expanding an audit that has ended, or has comparisons already, adds nothing.
    """
    audit = session.scalar(select(Audit).where(Audit.id == audit_id).with_for_update())
    if audit is None or audit.state in FINAL:
        return []
    if session.scalar(select(Comparison.id).where(Comparison.audit_id == audit_id).limit(1)):
        return []
    try:
        _check_catalogs(session, audit_id)
        ids = (
            recorded_audits.add_pairs(session, audit) if recorded_audits.is_one(audit) else _add_groups(session, audit)
        )
    except NothingToCompareError as error:
        fail(session, audit_id, {"class": error.failure_class, "code": error.code, "message": str(error)})
        return []
    compares = {handle: handle for handle in ids if handle.startswith("compare ")}
    last = plan.JobSpec(
        "conclude", JobKind.CONCLUDE, {"audit_id": str(audit.id)}, needs=compares, work_key=f"conclude {audit.id}"
    )
    ids = jobs.add(session, [last], audit_id=audit.id, known=ids)
    return list(dict.fromkeys(ids.values()))


def _add_groups(session: Session, audit: Audit) -> dict[str, uuid.UUID]:
    """Store the comparisons and jobs of every architecture key; return the jobs' ids by handle."""
    folders = {zoo["name"]: zoo["folder"] for zoo in audit.scope["zoos"]}
    listings = of_zoos(session, list(folders))
    matching = [listing for listing in listings if _matches(listing, audit.models)]
    audit_listings.keep(session, audit.id, matching)
    groups = plan.pick((_candidate(listing, folders) for listing in matching), audit.weights)
    if not groups:
        raise _nothing(audit, listings, matching)
    spaces = {listing.ref: listing.label_space for listing in matching}
    scope = plan.Scope.from_json(audit.scope)
    ids: dict[str, uuid.UUID] = {}
    for architecture, group in groups.items():
        ids |= _add_group(session, audit, architecture, group=group, scope=scope, spaces=spaces, known=ids)
    return ids


def _check_catalogs(session: Session, audit_id: uuid.UUID) -> None:
    """Raise NothingToCompareError when one of the audit's zoos could not be listed."""
    expanding = select(Job.id).where(Job.audit_id == audit_id, Job.kind == JobKind.EXPAND)
    for job_id in session.scalars(expanding).all():
        for catalog in jobs.needs(session, job_id).values():
            if catalog.state != State.SUCCEEDED:
                zoo = catalog.payload["zoo"]
                reason = (catalog.error or {}).get("message") or f"the job was {catalog.state}."
                message = f"The models of zoo {zoo} could not be listed: {reason}"
                raise NothingToCompareError("no-catalog", message, failure_class=catalog.failure_class or "usage")


def _matches(listing: Listing, patterns: Sequence[str]) -> bool:
    names = (listing.architecture or "", listing.name)
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _candidate(listing: Listing, folders: dict[str, str | None]) -> plan.Candidate:
    folder = folders[listing.zoo]
    subject = plan.Subject(listing.ref, listing.zoo, listing.name, listing.weights, folder)
    return plan.Candidate(subject, str(listing.architecture), listing.is_default)


def _nothing(audit: Audit, listings: Sequence[Listing], matching: Iterable[Listing]) -> NothingToCompareError:
    zoos = " and ".join(audit.zoos)
    found: dict[str, set[str]] = defaultdict(set)
    for listing in matching:
        found[str(listing.architecture)].add(listing.zoo)
    if found:
        examples = ", ".join(f"{key} in {', '.join(sorted(where))}" for key, where in sorted(found.items())[:3])
        message = f"No model is in two of the zoos {zoos} under one architecture key; found {examples}."
        return NothingToCompareError("no-pairs", message)
    keys = sorted({str(listing.architecture) for listing in listings})
    near = [key for pattern in audit.models for key in difflib.get_close_matches(pattern, keys, n=2)]
    advice = f" Did you mean {', '.join(dict.fromkeys(near))}?" if near else ""
    message = f"The zoos {zoos} have no model that matches {', '.join(audit.models) or 'an architecture key'}.{advice}"
    return NothingToCompareError("no-match", message)


def _add_group(
    session: Session,
    audit: Audit,
    architecture: str,
    *,
    group: Sequence[plan.Candidate],
    scope: plan.Scope,
    spaces: dict[str, str | None],
    known: dict[str, uuid.UUID],
) -> dict[str, uuid.UUID]:
    """Store one architecture key's comparisons and jobs; return their ids by handle."""
    share = f"{audit.id} {architecture}"
    reasons = {candidate.subject.ref: _no_accuracy(candidate, scope, spaces) for candidate in group}
    able = {ref for ref, reason in reasons.items() if reason is None}
    predicted = able if len(able) > 1 else set()
    subjects = [candidate.subject for candidate in group]
    specs = plan.measurements(subjects, scope, share=share, predicted=predicted)
    ids = jobs.add(session, specs, audit_id=audit.id, known=known)
    for a, b in plan.pairs(group):
        own = scope
        reason = reasons[a.subject.ref] or reasons[b.subject.ref]
        if reason is not None:
            own = scope.without(Dimension.ACCURACY, code="no-accuracy", message=reason)
        comparison = Comparison(
            id=new_id(),
            audit_id=audit.id,
            state=State.QUEUED,
            architecture=architecture,
            a_ref=a.subject.ref,
            b_ref=b.subject.ref,
            scope=own.to_json(),
        )
        session.add(comparison)
        session.flush()
        spec = plan.comparison(str(comparison.id), a.subject, b.subject, own, share=share)
        ids |= jobs.add(session, [spec], comparison_id=comparison.id, audit_id=audit.id, known=ids)
    return ids


def _no_accuracy(candidate: plan.Candidate, scope: plan.Scope, spaces: dict[str, str | None]) -> str | None:
    """Say why a listing cannot take part in accuracy; None when it can or accuracy is not asked for."""
    if Dimension.ACCURACY not in scope.dimensions or scope.dataset is None:
        return None
    ref = candidate.subject.ref
    if candidate.subject.weights in UNTRAINED:
        return f"{ref} has random weights, so its accuracy means nothing; choose a weights tag or leave accuracy out."
    wanted, has = scope.dataset["label_space"], spaces[ref]
    if wanted is not None and not fits(has, wanted):
        return (
            f"{ref} has the label space {has or 'that its zoo does not say'}, and the data set "
            f"{scope.dataset['name']} has {wanted}; choose a data set of its label space for accuracy."
        )
    return None
