"""Comparisons: submit, look, cancel. The command line and the API both call these; the caller owns the transaction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.db import comparisons, findings, jobs, progress
from app.db.tables import Comparison
from app.domain import plan
from app.domain.ids import new_id
from app.domain.policies import Dimension
from app.domain.states import FINAL, State
from app.domain.storage import file_path
from app.errors import ConflictError, NotFoundError
from app.services import contracts, recorded, scopes, subjects, zoos
from app.services import findings as finding_service
from app.services.submission import Caller, Submitted, earlier, ready

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from app.db.paging import Selection
    from app.settings import Settings

_BLOCKS = ("architecture", "accuracy", "latency", "interface", "contract", "weights", "features")


def submit(
    session: Session,
    settings: Settings,
    request: dict[str, Any],
    caller: Caller | None = None,
    *,
    left_out: dict[str, Any] | None = None,
) -> Submitted:
    """Store a comparison and its jobs.

    ``request`` is ``{a, b, contracts?}`` with what ``scopes.scope`` takes. ``left_out`` says why dimensions that are
    wanted are not asked for, as ``Scope.errors`` does. Nothing is loaded or measured here. Raises InvalidError for what
    is known to be wrong already.
    """
    comparison_id = new_id()
    if before := earlier(session, caller or Caller(), kind="comparison", request=request, resource_id=comparison_id):
        return Submitted(before, created=False)
    known = zoos.known(session, settings)
    a, b = subjects.read_all(session, known, [request["a"], request["b"]])
    # Advice on weights comes before advice on data sets: no data set helps random weights.
    if Dimension.ACCURACY in (request.get("dimensions") or ()) or request.get("dataset"):
        _check_accuracy(request, a, b)
    spaces = {side.listing.label_space for side in (a, b) if side.listing and side.listing.label_space}
    scope = scopes.scope(session, recorded.fit(session, request, (a, b)), spaces)
    scope = replace(scope, errors=scope.errors | (left_out or {}))
    imported = recorded.imported(session, scope, (a, b))
    a, b, scope = contracts.override(request.get("contracts") or {}, a, b, scope, imported)
    keys = [side.listing.architecture for side in (a, b) if side.listing]
    comparison = Comparison(
        id=comparison_id,
        state=State.QUEUED,
        architecture=keys[0] if len(keys) == 2 and keys[0] == keys[1] else None,  # noqa: PLR2004 - two sides
        a_ref=a.subject.ref,
        b_ref=b.subject.ref,
        scope=scope.to_json(),
    )
    session.add(comparison)
    session.flush()
    share = str(comparison_id)
    specs = [
        *plan.measurements([a.subject, b.subject], scope, share=share, imported=imported),
        plan.comparison(share, a.subject, b.subject, scope, share=share, imported=imported),
    ]
    there = {plan.predict_handle(ref): job_id for ref, job_id in imported.items()}
    ids = jobs.add(session, specs, comparison_id=comparison_id, known=there)
    # As it was made: to read all that back takes longer than to store it.
    shown = _json(comparison, None, progress={"done": 0, "total": len(set(ids.values())), "message": None})
    return Submitted(comparison_id, created=True, ring=ready(specs, ids), shown=shown)


def _check_accuracy(request: dict[str, Any], *sides: subjects.Named) -> None:
    asked = request.get("dimensions")
    if asked is None or Dimension.ACCURACY in asked:
        for side in sides:
            subjects.refuse_random_accuracy(side)


def row(session: Session, comparison_id: uuid.UUID) -> Comparison:
    """Return a comparison's row; raises NotFoundError."""
    comparison = comparisons.get(session, comparison_id)
    if comparison is None:
        raise NotFoundError(f"There is no comparison {comparison_id}.")
    return comparison


def show(session: Session, comparison_id: uuid.UUID) -> dict[str, Any]:
    """Return a comparison as JSON: its answer once it stands, until then its state and progress."""
    comparison = row(session, comparison_id)
    # They are stored with its end.
    found = findings.of_comparison(session, comparison_id) if comparison.state in FINAL else []
    end = comparisons.ends(session, [comparison_id]).get(comparison_id)
    far = progress.progress(session, [end.job_id] if end else [])
    return _json(comparison, end, [finding_service.to_json(finding) for finding in found], progress=far)


def _json(
    comparison: Comparison,
    end: comparisons.End | None,
    found: Sequence[dict[str, Any]] = (),
    *,
    progress: dict[str, Any],
) -> dict[str, Any]:
    return {
        **summary(comparison, end),
        **dict.fromkeys(_BLOCKS),
        "reason": None,
        "errors": comparison.scope["errors"],
        **(comparison.result or {}),
        "verdict": comparison.verdict,
        "findings": list(found),
        "progress": progress,
    }


def diagram(session: Session, settings: Settings, comparison_id: uuid.UUID) -> str:
    """Return the picture of a comparison's two graphs, an SVG document.

    Raises NotFoundError, with the reason, when there is no comparison or no picture of it.
    """
    comparison = row(session, comparison_id)
    state, _ = comparisons.shown(session, comparison)
    found = ((comparison.result or {}).get("architecture") or {}).get("diagram") or {}
    if state not in FINAL:
        reason = f"it is {state}; ask again when it has ended"
    elif found.get("left_out"):
        reason = found["left_out"]
    elif not found.get("sha256"):
        reason = "its architecture was not compared; ask for a comparison with the dimension architecture"
    else:
        try:
            return file_path(settings.data_dir, found["sha256"]).read_text(encoding="utf-8")
        except OSError as error:
            reason = f"its file cannot be read from the data folder ({error.strerror}); ask for the comparison again"
    raise NotFoundError(f"Comparison {comparison_id} has no diagram: {reason}.", slug="no-diagram")


def summary(comparison: Comparison, end: comparisons.End | None) -> dict[str, Any]:
    """Return what a list shows of a comparison whose last job is ``end``."""
    state, error = comparisons.shown_by(comparison, end)
    scope = comparison.scope
    return {
        "id": str(comparison.id),
        "audit_id": str(comparison.audit_id) if comparison.audit_id else None,
        "state": state,
        "verdict": comparison.verdict,
        "architecture_key": comparison.architecture,
        "a": {"ref": comparison.a_ref},
        "b": {"ref": comparison.b_ref},
        "dimensions": scope["dimensions"],
        "dataset": (scope["dataset"] or {}).get("name"),
        "policy": scope["policy"],
        "error": error,
        "created_at": comparison.created_at.isoformat(),
        "finished_at": comparison.finished_at.isoformat() if comparison.finished_at else None,
    }


def find(session: Session, wanted: Selection) -> dict[str, Any]:
    """Return a page of the comparisons that are wanted as JSON."""
    page = comparisons.LISTED.page(session, wanted)
    ends = comparisons.ends(session, [each.id for each in page.items if each.state not in FINAL])
    return page.map(lambda each: summary(each, ends.get(each.id)))


def cancel(session: Session, comparison_id: uuid.UUID) -> dict[str, Any]:
    """Cancel a comparison and the jobs that nothing else needs; return it as JSON.

    Cancelling twice is the same as once; raises ConflictError when it ended otherwise.
    """
    comparison = row(session, comparison_id)
    state, _ = comparisons.shown(session, comparison)
    if state in FINAL and state is not State.CANCELLED:
        raise ConflictError(f"Comparison {comparison_id} has ended already: {state}.", slug="already-ended")
    if comparisons.cancel(session, comparison_id):
        progress.cancel(session, [end.job_id for end in comparisons.ends(session, [comparison_id]).values()])
    session.expire_all()
    return show(session, comparison_id)
