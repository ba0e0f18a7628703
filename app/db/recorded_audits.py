"""Audits of models that are known by imported predictions: every pair of a data set, without loading a model."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import combinations
from typing import TYPE_CHECKING

from app.db import jobs, predictions
from app.db.tables import Audit, Comparison
from app.domain import plan
from app.domain.ids import new_id
from app.domain.references import RECORDED, parse
from app.domain.states import State

if TYPE_CHECKING:
    import uuid

    from sqlalchemy.orm import Session

_LEAST = 2


class NothingToCompareError(Exception):
    """An audit has no pairs; the message is a sentence that says why."""

    def __init__(self, code: str, message: str, *, failure_class: str = "usage") -> None:
        super().__init__(message)
        self.code = code
        self.failure_class = failure_class


def is_one(audit: Audit) -> bool:
    """Whether an audit is of recorded models."""
    return list(audit.zoos) == [RECORDED]


def add_pairs(session: Session, audit: Audit) -> dict[str, uuid.UUID]:
    """Store the comparisons of an audit and the jobs that make them; return the jobs' ids by handle.

    Raises NothingToCompareError.
    """
    scope = plan.Scope.from_json(audit.scope)
    dataset = str((scope.dataset or {})["name"])
    known = predictions.imported(session, dataset)
    chosen = {ref: row for ref, row in known.items() if _matches(ref, audit.models)}
    if len(chosen) < _LEAST:
        message = f"An audit compares at least two models; data set {dataset} has predictions of "
        raise NothingToCompareError("no-pairs", message + f"{', '.join(known) or 'none'}.")
    pairs = []
    for a, b in combinations(sorted(chosen), 2):
        row = Comparison(
            id=new_id(), audit_id=audit.id, state=State.QUEUED, architecture=None, a_ref=a, b_ref=b, scope=audit.scope
        )
        session.add(row)
        pairs.append(str(row.id))
    session.flush()
    there = {plan.predict_handle(ref): row.job_id for ref, row in chosen.items()}
    specs = plan.comparisons_of_predictions(pairs, list(chosen))
    return jobs.add(session, specs, audit_id=audit.id, known=there)


def _matches(ref: str, patterns: list[str]) -> bool:
    """Whether a model is wanted; one that is imported for a zoo's listing is an answer of that listing all the same."""
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns for name in (ref, parse(ref).name))
