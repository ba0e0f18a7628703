"""Audits: submit, look, cancel. The command line and the API both call these; the caller owns the transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.db import audits, jobs, progress
from app.db.tables import Audit
from app.domain.ids import new_id
from app.domain.numbers import finite
from app.domain.plan import DEFAULT_WEIGHTS, JobSpec
from app.domain.policies import Dimension
from app.domain.references import FILE, NO_WEIGHTS, RECORDED, UPLOAD
from app.domain.states import FINAL, JobKind, State
from app.errors import ConflictError, InvalidError, NotFoundError
from app.services import catalogs, scopes, zoos
from app.services.submission import Caller, Submitted, earlier, ready

if TYPE_CHECKING:
    import uuid

    from sqlalchemy.orm import Session

    from app.db.paging import Selection
    from app.domain.plan import Scope
    from app.domain.zoos import Zoo
    from app.settings import Settings


@dataclass(frozen=True)
class Wanted:
    """What a request for an audit asks for, checked."""

    zoos: list[Zoo]
    weights: str
    scope: Scope


def submit(session: Session, settings: Settings, request: dict[str, Any], caller: Caller | None = None) -> Submitted:
    """Store an audit with the jobs that read its zoos' catalogs and expand it.

    ``request`` is ``{zoos, models?, weights?}`` with what ``scopes.scope`` takes. Raises InvalidError for what is known
    to be wrong already.
    """
    audit_id = new_id()
    if before := earlier(session, caller or Caller(), kind="audit", request=request, resource_id=audit_id):
        return Submitted(before, created=False)
    wanted = check(session, settings, request)
    folders = [{"name": zoo.name, "folder": zoo.folder} for zoo in wanted.zoos]
    session.add(
        Audit(
            id=audit_id,
            state=State.QUEUED,
            zoos=[zoo.name for zoo in wanted.zoos],
            models=list(request.get("models") or ()),
            weights=wanted.weights,
            scope=wanted.scope.to_json() | {"zoos": folders},
        )
    )
    session.flush()
    reading = catalogs.specs(session, [zoo for zoo in wanted.zoos if zoo.name != RECORDED])
    expand = JobSpec(
        "expand", JobKind.EXPAND, {"audit_id": str(audit_id)}, needs={spec.handle: spec.handle for spec in reading}
    )
    ids = jobs.add(session, [*reading, expand], audit_id=audit_id)
    return Submitted(audit_id, created=True, ring=ready([*reading, expand], ids))


def check(session: Session, settings: Settings, request: dict[str, Any]) -> Wanted:
    """Return what ``submit`` would make of a request, without storing anything. Raises InvalidError."""
    known = zoos.known(session, settings)
    names = list(dict.fromkeys(request["zoos"]))
    if {FILE, UPLOAD}.intersection(names):
        raise InvalidError("A bare file is no zoo; put the files into a folder with a zoo.toml.", slug="unknown-zoo")
    chosen = [zoos.named(known, name) for name in names]
    if RECORDED in names:
        request = _of_recorded(request, names)
    elif len(chosen) < 2:  # noqa: PLR2004 - a pair
        raise InvalidError("An audit compares zoo against zoo; name at least two.", slug="too-few-zoos")
    weights = request.get("weights") or DEFAULT_WEIGHTS
    scope = scopes.scope(session, request, ())
    if weights == NO_WEIGHTS and Dimension.ACCURACY in scope.dimensions:
        raise InvalidError(
            "weights none asks for random weights, whose accuracy means nothing; choose another weights tag or leave "
            "accuracy out.",
            slug="random-weights",
        )
    return Wanted(chosen, weights, scope)


def _of_recorded(request: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return the request of an audit of recorded models, which have accuracy alone; raises InvalidError."""
    if names != [RECORDED]:
        raise InvalidError(
            "Models that are known by imported predictions are audited among themselves; leave the other zoos out.",
            slug="mixed-zoos",
        )
    if not request.get("dataset"):
        raise InvalidError("Recorded models are compared on a data set; name it.", slug="no-dataset")
    if set(request.get("dimensions") or [Dimension.ACCURACY]) != {str(Dimension.ACCURACY)}:
        raise InvalidError("Recorded models have accuracy alone; leave the other dimensions out.", slug="no-model")
    return request | {"dimensions": [str(Dimension.ACCURACY)]}


def _row(session: Session, audit_id: uuid.UUID) -> Audit:
    audit = audits.get(session, audit_id)
    if audit is None:
        raise NotFoundError(f"There is no audit {audit_id}.")
    return audit


def show(session: Session, audit_id: uuid.UUID) -> dict[str, Any]:
    """Return an audit as JSON, with its progress and, once it stands, its summary."""
    audit = _row(session, audit_id)
    return to_json(session, audit) | {"progress": progress.progress(session, audits.own_jobs(session, audit_id))}


def to_json(session: Session, audit: Audit) -> dict[str, Any]:
    """Return what a list shows of an audit."""
    state, error = audits.shown(session, audit)
    scope = audit.scope
    value: dict[str, Any] = finite(
        {
            "id": str(audit.id),
            "state": state,
            "zoos": audit.zoos,
            "models": audit.models,
            "weights": audit.weights,
            "dimensions": scope["dimensions"],
            "dataset": (scope["dataset"] or {}).get("name"),
            "policy": scope["policy"],
            "latency_budget_s": scope["latency_budget_s"],
            "operating_points": scope.get("operating_points", []),
            "summary": audit.summary,
            "error": error,
            "created_at": audit.created_at.isoformat(),
            "finished_at": audit.finished_at.isoformat() if audit.finished_at else None,
        }
    )
    return value


def find(session: Session, wanted: Selection) -> dict[str, Any]:
    """Return a page of the audits that are wanted as JSON."""
    return audits.LISTED.page(session, wanted).map(lambda row: to_json(session, row))


def cancel(session: Session, audit_id: uuid.UUID) -> dict[str, Any]:
    """Cancel an audit, its open comparisons, and the jobs that nothing else needs; return it as JSON.

    Cancelling twice is the same as once; raises ConflictError when it ended otherwise.
    """
    audit = _row(session, audit_id)
    state, _ = audits.shown(session, audit)
    if state in FINAL and state is not State.CANCELLED:
        raise ConflictError(f"Audit {audit_id} has ended already: {state}.", slug="already-ended")
    if audits.cancel(session, audit_id):
        progress.cancel(session, audits.closing_jobs(session, audit_id))
    session.expire_all()
    return show(session, audit_id)
