"""Vettings: may a candidate take a reference's place? Submit, look, judge again; the caller owns the transaction."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from app.db import comparisons as comparison_rows
from app.db import outbox, progress, vettings
from app.db.vetting_tables import Vetting
from app.domain import answer, needed, vetting
from app.domain.ids import new_id
from app.domain.numbers import finite
from app.domain.plan import Scope
from app.domain.policies import Criterion, Dimension, Policy
from app.domain.references import UNTRAINED
from app.domain.states import FINAL, State
from app.errors import ConflictError, InvalidError, NotFoundError
from app.services import comparisons, policies, scopes, subjects, zoos
from app.services.submission import Caller, Submitted, earlier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from app.db.paging import Selection
    from app.db.tables import Comparison
    from app.services.subjects import Named
    from app.settings import Settings


def submit(session: Session, settings: Settings, request: dict[str, Any], caller: Caller | None = None) -> Submitted:
    """Store a vetting, with the comparison that it rests on unless that is stored already.

    ``request`` has a ``policy`` and either ``comparison_id``, a stored comparison that is judged without measuring
    again, or ``{candidate, reference, contracts?}`` with what ``scopes.scope`` takes. Without ``dimensions`` those are
    measured that the policy names. Raises InvalidError for what is known to be wrong already.
    """
    vetting_id = new_id()
    if before := earlier(session, caller or Caller(), kind="vetting", request=request, resource_id=vetting_id):
        return Submitted(before, created=False)
    policy = policies.resolve(session, request["policy"])
    ring: dict[str, list[uuid.UUID]] = {}
    comparison = None
    if request.get("comparison_id"):
        comparison_id = uuid.UUID(request["comparison_id"])
        # Locked: its end either stands already, or finds this vetting.
        comparison = comparison_rows.get(session, comparison_id, to_change=True)
        if comparison is None:
            raise InvalidError(f"There is no comparison {comparison_id}.", slug="unknown-comparison")
    else:
        asked, left_out = _asked(session, settings, request, policy)
        compared = {"a": request["candidate"], "b": request["reference"], "dimensions": asked}
        compared["policy"] = policy.content()
        submitted = comparisons.submit(session, settings, {**request, **compared}, left_out=left_out)
        comparison_id, ring = submitted.id, submitted.ring
    session.add(Vetting(id=vetting_id, comparison_id=comparison_id, policy=policy.to_json()))
    session.flush()
    if comparison is not None and comparison.state in FINAL:
        outbox.vetting_ended(session, vetting_id)
    return Submitted(vetting_id, created=True, ring=ring)


def _asked(
    session: Session, settings: Settings, request: dict[str, Any], policy: Policy
) -> tuple[list[str] | None, dict[str, Any]]:
    """Return the dimensions to measure, and why accuracy is left out where the policy needs it.

    None are those that can be measured, as for a comparison.
    """
    if request.get("dimensions") is not None or policy.critical is None:
        return request.get("dimensions"), {}
    known = zoos.known(session, settings)
    sides = subjects.read_all(session, known, [request["candidate"], request["reference"]])
    if not all(side.subject.is_model for side in sides):
        return None, {}
    criteria = policy.criteria(())
    wanted = [dimension for dimension in Dimension if _measures(dimension) & {*criteria}]
    reason = _no_accuracy(session, request, sides)
    if Dimension.ACCURACY not in wanted or reason is None:
        return [str(each) for each in wanted], {}
    wanted.remove(Dimension.ACCURACY)
    if not wanted:
        raise InvalidError(reason["message"], slug=reason["code"])
    critical = policy.decides(Criterion.ACCURACY, ())
    return [str(each) for each in wanted], {str(Dimension.ACCURACY): reason} if critical else {}


def _measures(dimension: Dimension) -> set[Criterion]:
    """Return the criteria that measuring a dimension tells of."""
    of_graphs = {Criterion.WEIGHTS, Criterion.FEATURES} if dimension is Dimension.ARCHITECTURE else set()
    return {Criterion(dimension), *of_graphs}


def _no_accuracy(session: Session, request: dict[str, Any], sides: Sequence[Named]) -> dict[str, Any] | None:
    """Say why accuracy cannot be measured; None when it can."""
    for side in sides:
        weights = side.listing.weights if side.listing else side.subject.weights
        if weights in UNTRAINED:
            message = f"{side.full_ref} has random weights, so its accuracy means nothing; choose a weights tag."
            return {"class": "usage", "code": needed.RANDOM_WEIGHTS, "message": message}
    if request.get("dataset") is None:
        spaces = {side.listing.label_space for side in sides if side.listing and side.listing.label_space}
        message = scopes.missing_dataset(session, spaces)
        return {"class": "usage", "code": needed.NO_DATASET, "message": message}
    return None


def show(session: Session, vetting_id: uuid.UUID) -> dict[str, Any]:
    """Return a vetting as JSON: its decision once its comparison has ended, until then its state and progress."""
    row = vettings.get(session, vetting_id)
    if row is None:
        raise NotFoundError(f"There is no vetting {vetting_id}.")
    return _to_json(session, [row])[0]


def cancel(session: Session, vetting_id: uuid.UUID) -> dict[str, Any]:
    """Cancel the comparison that a vetting rests on; return the vetting as JSON.

    Raises ConflictError when it ended otherwise.
    """
    row = vettings.get(session, vetting_id)
    if row is None:
        raise NotFoundError(f"There is no vetting {vetting_id}.")
    comparisons.cancel(session, row.comparison_id)
    return _to_json(session, [row])[0]


def find(session: Session, wanted: Selection) -> dict[str, Any]:
    """Return a page of the vettings that are wanted as JSON."""
    page = vettings.LISTED.page(session, wanted)
    return {"items": _to_json(session, page.items), "next_cursor": page.next_cursor}


def _to_json(session: Session, rows: Sequence[Vetting]) -> list[dict[str, Any]]:
    ids = {row.comparison_id for row in rows}
    compared, ends = comparison_rows.of_ids(session, ids), comparison_rows.ends(session, ids)
    how_far = progress.each(session, [end.job_id for end in ends.values()])
    return [_shown(row, compared[row.comparison_id], ends.get(row.comparison_id), how_far) for row in rows]


def _shown(
    row: Vetting, comparison: Comparison, end: comparison_rows.End | None, how_far: Mapping[uuid.UUID, dict[str, Any]]
) -> dict[str, Any]:
    policy = Policy.from_json(row.policy)
    shown = comparisons.summary(comparison, end)
    sides = {"candidate": shown["a"], "reference": shown["b"]}
    decided: dict[str, Any] = {"verdict": None, "reason": None, "checks": [], "advisories": [], "needed": []}
    if comparison.result is not None:
        judged = _judged(comparison, policy)
        decided = vetting.decide(judged, policy, Scope.from_json(comparison.scope)).to_json()
        sides = {"candidate": judged.result["a"], "reference": judged.result["b"]}
    value: dict[str, Any] = finite(
        {
            **{name: shown[name] for name in ("state", "dimensions", "dataset", "error", "finished_at")},
            "id": str(row.id),
            "comparison_id": str(row.comparison_id),
            "policy": policy.to_json(),
            **sides,
            **decided,
            "progress": how_far[end.job_id] if end else progress.NOTHING,
            "created_at": row.created_at.isoformat(),
        }
    )
    return value


def _judged(comparison: Comparison, policy: Policy) -> answer.Answer:
    scope = Scope.from_json(comparison.scope)
    return answer.again(comparison.result or {}, policy, scope.dimensions)


def judge(session: Session, comparison_id: uuid.UUID, policy: str | dict[str, Any]) -> dict[str, Any]:
    """Return what a stored comparison says under another policy, as JSON; nothing is measured or stored.

    Raises NotFoundError, and ConflictError when it has no answer (yet).
    """
    comparison = comparisons.row(session, comparison_id)
    if comparison.result is None:
        state, _ = comparison_rows.shown(session, comparison)
        after = "ask again when it has ended" if state in {State.QUEUED, State.RUNNING} else "compare anew"
        raise ConflictError(f"Comparison {comparison_id} is {state} and has no answer; {after}.", slug="no-answer")
    judged = _judged(comparison, policies.resolve(session, policy))
    found = [finding.to_json() | {"magnitude": finding.magnitude} for finding in judged.findings]
    value: dict[str, Any] = finite({"comparison_id": str(comparison_id), **judged.result, "findings": found})
    return value
