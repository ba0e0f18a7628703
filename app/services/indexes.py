"""The index of a zoo: fingerprints of all its architectures. Ask for it, look at it, cancel it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.db import fingerprints, jobs, listings, progress
from app.db.tables import Job
from app.domain.plan import JobSpec
from app.domain.references import FILE, UPLOAD
from app.domain.states import FINAL, JobKind, State
from app.errors import ConflictError, InvalidError, NotFoundError
from app.services import catalogs, zoos
from app.services.submission import ready

if TYPE_CHECKING:
    import uuid

    from sqlalchemy.orm import Session

    from app.db.paging import Selection
    from app.db.tables import Fingerprint
    from app.domain.zoos import Zoo
    from app.settings import Settings


def submit(session: Session, settings: Settings, zoo: str, *, retry: bool) -> dict[str, list[uuid.UUID]]:
    """Store the jobs that fingerprint what is not fingerprinted yet in a zoo; return those to ring for.

    While a zoo is being indexed, asking again joins that work. ``retry`` tries again what failed, too. Raises
    InvalidError for an unknown zoo.
    """
    chosen = _zoo(session, settings, zoo)
    work = f"index {zoo}"
    reading = catalogs.specs(session, [chosen])
    index = JobSpec(
        work,
        JobKind.INDEX,
        {"zoo": zoo, "folder": chosen.folder, "retry": retry},
        needs={spec.handle: spec.handle for spec in reading},
        work_key=work,
        priority=4,
        team=chosen.team,
    )
    ids = jobs.add(session, [*reading, index])
    fingerprints.requested(session, zoo, ids[work])
    return ready([*reading, index], ids)


def _zoo(session: Session, settings: Settings, name: str) -> Zoo:
    if name in {FILE, UPLOAD}:
        raise InvalidError("A bare file is no zoo; put the files into a folder with a zoo.toml.", slug="unknown-zoo")
    return zoos.named(zoos.known(session, settings), name)


def show(session: Session, settings: Settings, zoo: str) -> dict[str, Any]:
    """Return how far the index of a zoo is as JSON: state, progress, and what is known so far.

    Raises InvalidError for an unknown zoo, NotFoundError for one that nobody has asked to index.
    """
    _zoo(session, settings, zoo)
    requested = fingerprints.request_of(session, zoo)
    if requested is None:
        raise NotFoundError(
            f"Zoo {zoo} has not been indexed; POST to /v1/zoos/{zoo}/index, or run `zooaudit index --zoo {zoo}`.",
            slug="not-indexed",
        )
    state, error = _state(session, requested.job_id)
    catalog = listings.catalogs(session).get(zoo)
    return {
        "zoo": zoo,
        "state": state,
        "progress": progress.progress(session, [requested.job_id]),
        "error": error,
        "requested_at": requested.requested_at.isoformat(),
        "listings": catalog.listings if catalog else None,
        **fingerprints.counts(session, zoo),
    }


def _state(session: Session, job_id: uuid.UUID) -> tuple[State, dict[str, Any] | None]:
    """Return the state of all the work behind an index. What could not be fingerprinted is no failure of the index."""
    index = session.get_one(Job, job_id)
    if index.state in {State.FAILED, State.CANCELLED}:
        return State(index.state), index.error
    states = progress.states(session, [job_id])
    if states.keys() <= FINAL:
        return (State.CANCELLED if State.CANCELLED in states else State.SUCCEEDED), None
    return (State.QUEUED if states.keys() == {State.QUEUED} else State.RUNNING), None


def failures(session: Session, settings: Settings, zoo: str, wanted: Selection) -> dict[str, Any]:
    """Return a page of the listings of a zoo that could not be fingerprinted, with the reason, as JSON."""
    _zoo(session, settings, zoo)
    return fingerprints.failed(session, zoo, wanted).map(_failure)


def _failure(row: Fingerprint) -> dict[str, Any]:
    return {
        "listing_id": str(row.listing_id),
        "built": row.subject,
        "error": row.error,
        "measured_at": row.measured_at.isoformat(),
    }


def cancel(session: Session, settings: Settings, zoo: str) -> dict[str, Any]:
    """Cancel what is left of an index, except jobs that others wait for; what is fingerprinted stays.

    Returns the index as JSON. Cancelling twice is the same as once; raises ConflictError when it has ended otherwise.
    """
    shown = show(session, settings, zoo)
    if shown["state"] in FINAL and shown["state"] != State.CANCELLED:
        raise ConflictError(f"The index of zoo {zoo} has ended already: {shown['state']}.", slug="already-ended")
    requested = fingerprints.request_of(session, zoo)
    if requested is not None:
        progress.cancel(session, [requested.job_id])
    session.expire_all()
    return show(session, settings, zoo)
