"""Which structure each listing has: what an index of a zoo adds, and what is searched."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, true
from sqlalchemy.orm import load_only

from app.db import jobs
from app.db.clock import now
from app.db.paging import Listed
from app.db.tables import Fingerprint, JobNeed, Listing, Structure, ZooIndex
from app.domain.plan import JobSpec, Subject
from app.domain.references import NO_WEIGHTS
from app.domain.similarity import Packed
from app.domain.states import FailureClass, JobKind

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import Session

    from app.db.jobs import Claim
    from app.db.paging import Page, Selection

_PASSING = frozenset({FailureClass.TRANSIENT, FailureClass.LOST})
"""Failures that the next index of a zoo tries again unasked."""

_SHOWN = ("id", "ref", "zoo", "name", "weights", "architecture", "is_default")
"""Columns of a listing that a search shows."""

_BULK = -1
"""Priority of an index's jobs: whoever waits for one comparison goes first."""


def spec(subject: Subject, alike: Sequence[str], *, priority: int = _BULK) -> JobSpec:
    """Return the job that fingerprints ``subject`` for all listings ``alike``, references that share its structure."""
    work = f"structure {subject.ref}"
    payload = {"listing": subject.to_json(), "alike": list(alike)}
    return JobSpec(work, JobKind.STRUCTURE, payload, work_key=work, priority=priority, team=subject.team)


@dataclass(frozen=True)
class Structured:
    """What a structure job found: the canonical graph's fingerprint, its vector and how many nodes it has."""

    fingerprint: str
    vector: Sequence[int]
    nodes: int


def keep(
    session: Session,
    refs: Iterable[str],
    *,
    subject: str,
    key: str,
    found: Structured,
    measurement_id: uuid.UUID,
) -> None:
    """Store the structure of these listings, as far as a catalog knows them; replaces what was known of them."""
    packed = Packed.of(found.vector)
    session.merge(
        Structure(fingerprint=found.fingerprint, vector=packed.elements, length=packed.length, nodes=found.nodes)
    )
    session.flush()
    values = {"fingerprint": found.fingerprint, "measurement_id": measurement_id, "error": None}
    _store(session, refs, {"subject": subject, "key": key} | values)


def keep_error(session: Session, refs: Iterable[str], *, subject: str, key: str, error: dict[str, Any]) -> None:
    """Store why the structure of these listings could not be told; replaces what was known of them."""
    values = {"fingerprint": None, "measurement_id": None, "error": error}
    _store(session, refs, {"subject": subject, "key": key} | values)


def _store(session: Session, refs: Iterable[str], values: dict[str, Any]) -> None:
    for listing_id, zoo in session.execute(select(Listing.id, Listing.zoo).where(Listing.ref.in_(list(refs)))).all():
        session.merge(Fingerprint(listing_id=listing_id, zoo=zoo, measured_at=now(), **values))
    session.flush()


def expand(
    session: Session,
    claim: Claim,
    *,
    zoo: str,
    folder: str | None,
    retry: bool,
    key_of: Callable[[Subject], str | None],
) -> None:
    """Add a structure job for every architecture of a zoo that is not fingerprinted yet, and make ``claim`` need them.

    ``key_of`` returns the measurement key of a subject, None where an earlier measurement says nothing about now.
    What failed is tried again if its failure may pass, or if ``retry``.
    """
    known = {row.listing_id: row for row in session.scalars(select(Fingerprint).where(Fingerprint.zoo == zoo)).all()}
    specs = []
    for group in _groups(session, zoo, folder):
        chosen = next((listing for listing in group if listing.weights == NO_WEIGHTS), group[0])
        subject = Subject(chosen.ref, zoo, chosen.name, chosen.weights, folder)
        key = key_of(subject)
        rows = [known.get(listing.id) for listing in group]
        if key is None or not all(_stands(row, key, retry=retry) for row in rows):
            specs.append(spec(subject, [listing.ref for listing in group]))
    ids = jobs.add(session, specs)
    session.add_all(JobNeed(job_id=claim.id, role=item.handle, needs_id=ids[item.handle]) for item in specs)
    session.flush()


def _stands(row: Fingerprint | None, key: str, *, retry: bool) -> bool:
    if row is None or row.key != key:
        return False
    return row.error is None or not (retry or row.error.get("class") in _PASSING)


def _groups(session: Session, zoo: str, folder: str | None) -> list[list[Listing]]:
    """Return a zoo's listings in groups of one architecture.

    Weights tags of one model share it when they have the same classes and input; in a team's own folder, whose builder
    may look at the tag, each listing stands alone.
    """
    groups: dict[Any, list[Listing]] = defaultdict(list)
    for listing in session.scalars(select(Listing).where(Listing.zoo == zoo).order_by(Listing.ref)):
        contract = listing.contract or {}
        size = tuple(contract.get(name) for name in ("height", "width", "colour", "layout"))
        alone = listing.ref if folder is not None else None
        groups[listing.name, listing.classes, size, alone].append(listing)
    return list(groups.values())


def requested(session: Session, zoo: str, job_id: uuid.UUID) -> None:
    """Note that this job is the one that indexes a zoo from now on."""
    session.merge(ZooIndex(zoo=zoo, job_id=job_id, requested_at=now()))
    session.flush()


def request_of(session: Session, zoo: str) -> ZooIndex | None:
    """Return who indexed a zoo last."""
    return session.get(ZooIndex, zoo)


def counts(session: Session, zoo: str) -> dict[str, Any]:
    """Return how many listings of a zoo are ``indexed`` and ``failed``, their ``structures``, ``failures`` by code."""
    known = select(func.count(Fingerprint.fingerprint), func.count(Fingerprint.fingerprint.distinct()))
    indexed, structures = session.execute(known.where(Fingerprint.zoo == zoo)).one()
    errors = session.scalars(
        select(Fingerprint.error).where(Fingerprint.zoo == zoo, Fingerprint.fingerprint.is_(None))
    ).all()
    failures = Counter(str(error["code"]) for error in errors if error)
    return {
        "indexed": indexed,
        "structures": structures,
        "failed": sum(failures.values()),
        "failures": dict(failures.most_common()),
    }


FAILURES = Listed(
    Fingerprint,
    Fingerprint.listing_id,
    sorts={"built": Fingerprint.subject, "measured_at": Fingerprint.measured_at},
    sort="built",
    filters={"zoo": None, "code": lambda code: Fingerprint.error["code"].as_string() == code},
    only=[Fingerprint.fingerprint.is_(None)],
)


def failed(session: Session, zoo: str, wanted: Selection) -> Page[Fingerprint]:
    """Return a page of the listings of a zoo whose structure could not be told."""
    return FAILURES.page(session, wanted.within(zoo=zoo))


def of_listing(session: Session, listing_id: uuid.UUID) -> Fingerprint | None:
    """Return what is known of a listing's structure."""
    return session.get(Fingerprint, listing_id)


def vector(session: Session, fingerprint: str) -> Packed:
    """Return a structure's vector."""
    structure = session.get_one(Structure, fingerprint)
    return Packed(structure.vector, structure.length)


def vectors(session: Session, zoo: str | None) -> list[tuple[str, Packed]]:
    """Return every structure that a listing (of this zoo) has, as (fingerprint, vector)."""
    used = select(Fingerprint.fingerprint).where(Fingerprint.fingerprint.is_not(None), _in(zoo))
    columns = (Structure.fingerprint, Structure.vector, Structure.length)
    rows = session.execute(select(*columns).where(Structure.fingerprint.in_(used)))
    return [(fingerprint, Packed(elements, length)) for fingerprint, elements, length in rows]


def listings_with(session: Session, found: Sequence[str], zoo: str | None) -> list[tuple[str, Listing]]:
    """Return the listings (of this zoo) with these fingerprints, as (fingerprint, listing), by reference."""
    return _pairs(session, _WITH_LISTING.where(Fingerprint.fingerprint.in_(found), _in(zoo)))


def namesakes(session: Session, architecture: str, zoo: str | None) -> list[tuple[str, Listing]]:
    """Return the fingerprinted listings (of this zoo) under an architecture key, as (fingerprint, listing)."""
    known = _WITH_LISTING.where(Listing.architecture == architecture, Fingerprint.fingerprint.is_not(None), _in(zoo))
    return _pairs(session, known)


_WITH_LISTING = (
    select(Fingerprint.fingerprint, Listing)
    .join(Listing, Listing.id == Fingerprint.listing_id)
    .order_by(Listing.ref)
    # A contract and claims for each of many rows would take most of a search's time.
    .options(load_only(*(getattr(Listing, name) for name in _SHOWN)))
)


def _in(zoo: str | None) -> ColumnElement[bool]:
    return true() if zoo is None else Fingerprint.zoo == zoo


def _pairs(session: Session, statement: Select[str | None, Listing]) -> list[tuple[str, Listing]]:
    return [(str(fingerprint), listing) for fingerprint, listing in session.execute(statement)]


def zoos(session: Session) -> list[str]:
    """Return the zoos that have fingerprints, in the order of their names."""
    known = select(Fingerprint.zoo).where(Fingerprint.fingerprint.is_not(None))
    return list(session.scalars(known.distinct().order_by(Fingerprint.zoo)))
