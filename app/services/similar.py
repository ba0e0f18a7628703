"""The nearest architectures of a listing, in all zoos that were indexed, whatever they are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.db import fingerprints, jobs, listings
from app.db.tables import Job, Measurement
from app.domain.similarity import Packed, cosines
from app.domain.states import State
from app.errors import ConflictError, NotFoundError
from app.services import subjects, zoos
from app.services.submission import ready

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from app.db.tables import Listing
    from app.settings import Settings

_ASKED = 3
"""Priority of a job that a person waits for."""


@dataclass(frozen=True)
class Sought:
    """What is searched for: a structure, and the listing that has it, None for a bare file."""

    ref: str
    fingerprint: str
    vector: Packed
    listing: Listing | None


def of_listing(session: Session, listing_id: uuid.UUID, *, zoo: str | None, limit: int) -> dict[str, Any]:
    """Return what ``find`` finds for a listing that was fingerprinted.

    Raises NotFoundError for an unknown one, ConflictError with the reason when it has no fingerprint.
    """
    listing = listings.get(session, listing_id)
    if listing is None:
        raise NotFoundError(f"There is no listing {listing_id}; its zoo may have stopped publishing it.")
    known = fingerprints.of_listing(session, listing_id)
    if known is None:
        raise ConflictError(
            f"{listing.ref} has no fingerprint yet; POST to /v1/zoos/{listing.zoo}/index makes it.",
            slug="not-indexed",
        )
    if known.fingerprint is None:
        reason = (known.error or {}).get("message", "")
        raise ConflictError(f"{listing.ref} could not be fingerprinted: {reason}", slug="not-fingerprinted")
    vector = fingerprints.vector(session, known.fingerprint)
    return find(session, Sought(listing.ref, known.fingerprint, vector, listing), zoo=zoo, limit=limit)


def submit(session: Session, settings: Settings, ref: str) -> dict[str, list[uuid.UUID]]:
    """Store the job that fingerprints what a reference names; return it for ringing.

    Raises InvalidError when the reference names nothing.
    """
    named = subjects.read(session, zoos.known(session, settings), ref)
    alike = [named.listing.ref] if named.listing else []
    spec = fingerprints.spec(named.subject, alike, priority=_ASKED)
    return ready([spec], jobs.add(session, [spec]))


def known(session: Session, settings: Settings, ref: str) -> uuid.UUID | None:
    """Return the listing that a reference names if it was fingerprinted, else None.

    Raises InvalidError when the reference names nothing.
    """
    listing = subjects.read(session, zoos.known(session, settings), ref).listing
    row = fingerprints.of_listing(session, listing.id) if listing else None
    return row.listing_id if row is not None and row.fingerprint is not None else None


def of_job(session: Session, job_id: uuid.UUID, *, zoo: str | None, limit: int) -> dict[str, Any]:
    """Return what ``find`` finds for what a structure job has measured; raises ConflictError when it failed."""
    job = session.get_one(Job, job_id)
    if job.state != State.SUCCEEDED or job.measurement_id is None:
        message = (job.error or {}).get("message") or f"The job was {job.state}."
        raise ConflictError(message, slug="not-fingerprinted")
    values = session.get_one(Measurement, job.measurement_id).values
    ref = values["listing"]["ref"]
    sought = Sought(ref, values["fingerprint"], Packed.of(values["vector"]), listings.by_ref(session, ref))
    return find(session, sought, zoo=zoo, limit=limit)


def find(session: Session, sought: Sought, *, zoo: str | None, limit: int) -> dict[str, Any]:
    """Return the ``limit`` nearest models, the nearest first, and all namesakes, as JSON.

    A model is a name in a zoo with the weights tags that share its structure. ``namesakes`` have the architecture key
    of the listing and another structure. ``zoo`` keeps only that zoo's models.
    """
    vectors = fingerprints.vectors(session, zoo)
    # The structure itself stands apart from others that its vector cannot tell from it.
    scores = cosines(sought.vector, vectors) | {sought.fingerprint: 1.0}
    order = sorted(scores, key=lambda each: (-scores[each], each != sought.fingerprint, each))
    items: list[dict[str, Any]] = []
    for start in range(0, len(order), limit):
        found = fingerprints.listings_with(session, order[start : start + limit], zoo)
        items += _models(found, sought, scores)
        if len(items) >= limit:
            break
    key = sought.listing.architecture if sought.listing else None
    called_so = fingerprints.namesakes(session, key, zoo) if key else []
    others = [pair for pair in called_so if pair[0] != sought.fingerprint]
    return {
        "ref": sought.ref,
        "architecture": key,
        "fingerprint": sought.fingerprint,
        "searched": {"structures": len(vectors), "zoos": fingerprints.zoos(session)},
        "items": items[:limit],
        "namesakes": _models(others, sought, scores),
    }


def _models(found: Iterable[tuple[str, Listing]], sought: Sought, scores: dict[str, float]) -> list[dict[str, Any]]:
    """Return the listings as models, the nearest first; the one that is searched for is left out."""
    models: dict[tuple[str, str, str], list[Listing]] = {}
    own = (sought.listing.zoo, sought.listing.name) if sought.listing else None
    for fingerprint, listing in found:
        if (fingerprint, own) != (sought.fingerprint, (listing.zoo, listing.name)):
            models.setdefault((fingerprint, listing.zoo, listing.name), []).append(listing)
    shown = [_model(key[0], each, sought, scores[key[0]]) for key, each in models.items()]
    return sorted(shown, key=lambda item: (-item["similarity"], not item["same_structure"], item["zoo"], item["name"]))


def _model(fingerprint: str, tags: Sequence[Listing], sought: Sought, score: float) -> dict[str, Any]:
    first = next((listing for listing in tags if listing.is_default), tags[0])
    return {
        "ref": first.ref,
        "listing_id": str(first.id),
        "zoo": first.zoo,
        "name": first.name,
        "weights": [listing.weights for listing in tags],
        "architecture": first.architecture,
        "fingerprint": fingerprint,
        "similarity": score,
        "same_structure": fingerprint == sought.fingerprint,
    }
