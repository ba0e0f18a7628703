"""Imported predictions as sides of a comparison: what can be asked of them, and which stand in for a live run."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from app.db import predictions
from app.db.datasets import RECORDED
from app.domain.policies import Dimension
from app.errors import InvalidError

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from app.domain.plan import Scope
    from app.services.subjects import Named


def fit(session: Session, request: dict[str, Any], sides: Sequence[Named]) -> dict[str, Any]:
    """Return a request with the dimensions that its sides have: without a model it is accuracy alone.

    Raises InvalidError when more was asked for, when a model has no imported predictions, or when no data set is named.
    """
    alone = [side.subject.ref for side in sides if not side.subject.is_model]
    if not alone:
        return request
    for ref in alone:
        on = predictions.datasets_of(session, ref)
        if not on:
            raise InvalidError(_unknown(session, ref), slug="no-predictions")
        if not request.get("dataset"):
            raise InvalidError(f"{ref} has predictions on {', '.join(on)}; name the data set.", slug="no-dataset")
    if set(request.get("dimensions") or [Dimension.ACCURACY]) != {str(Dimension.ACCURACY)}:
        raise InvalidError(
            f"{alone[0]} is known by its predictions alone, and architecture and latency need a model; compare "
            "accuracy only.",
            slug="no-model",
        )
    return request | {"dimensions": [str(Dimension.ACCURACY)]}


def _unknown(session: Session, ref: str) -> str:
    near = difflib.get_close_matches(ref, predictions.references(session), n=3, cutoff=0.5)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    return f"There are no imported predictions of {ref}.{hint} `zooaudit predictions import --model {ref}` adds some."


def imported(session: Session, scope: Scope, sides: Sequence[Named]) -> dict[str, uuid.UUID]:
    """Return the jobs that imported the predictions of those sides that are not run live, by the subject's reference.

    A model is run live where the data set's pictures are at hand. Raises InvalidError when a side has no predictions
    on the data set and cannot be run on it either.
    """
    if Dimension.ACCURACY not in scope.dimensions or scope.dataset is None:
        return {}
    dataset = scope.dataset["name"]
    not_run = [side for side in sides if not side.subject.is_model or scope.dataset["format"] == RECORDED]
    known = predictions.imported(session, dataset, [side.full_ref for side in not_run])
    for side in not_run:
        if side.full_ref not in known:
            raise InvalidError(_missing(session, side, dataset, by_labels=scope.dataset["format"] == RECORDED))
    return {side.subject.ref: known[side.full_ref].job_id for side in not_run}


def _missing(session: Session, side: Named, dataset: str, *, by_labels: bool) -> str:
    on = predictions.datasets_of(session, side.full_ref)
    has = f"It has predictions on {', '.join(on)}. " if on else ""
    cannot = f"; {dataset} is known by its labels alone, so nothing can be run on it" if by_labels else ""
    return (
        f"There are no imported predictions of {side.full_ref} on {dataset}{cannot}. {has}"
        f"`zooaudit predictions import --model {side.full_ref} --dataset {dataset} FILE` adds them."
    )
