"""Audits: many comparisons, from a zoo's catalog to a summary.

As with comparisons only final states are stored. ``running`` is derived: a job of the audit has been started. An audit
whose expand or conclude job ended badly is shown as failed, with that job's error.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, cast, exists, func, select, update

from app.db import audit_tests, comparisons, outbox, shown_states
from app.db.clock import now
from app.db.comparisons import ENDED_BADLY
from app.db.paging import Listed
from app.db.tables import Audit, Comparison, Finding, Job
from app.domain.states import FINAL, JobKind, State

if TYPE_CHECKING:
    import uuid

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

_CLOSING = (JobKind.EXPAND, JobKind.CONCLUDE)


def get(session: Session, audit_id: uuid.UUID) -> Audit | None:
    """Return one audit."""
    return session.get(Audit, audit_id)


def own_jobs(session: Session, audit_id: uuid.UUID) -> list[uuid.UUID]:
    """Return the jobs that were added for an audit."""
    return list(session.scalars(select(Job.id).where(Job.audit_id == audit_id)))


def closing_jobs(session: Session, audit_id: uuid.UUID) -> list[uuid.UUID]:
    """Return the jobs of an audit that nothing else can need: all but its catalogs and measurements."""
    own = (JobKind.EXPAND, JobKind.COMPARE, JobKind.COMPARE_MANY, JobKind.CONCLUDE)
    return list(session.scalars(select(Job.id).where(Job.audit_id == audit_id, Job.kind.in_(own))))


def shown(session: Session, audit: Audit) -> tuple[State, dict[str, Any] | None]:
    """Return the state that a reader sees, and the error with it."""
    if audit.state != State.QUEUED:
        return State(audit.state), audit.error
    bad = select(Job).where(Job.audit_id == audit.id, Job.kind.in_(_CLOSING), Job.state.in_(ENDED_BADLY)).limit(1)
    if job := session.scalar(bad):
        return State.FAILED, job.error
    started = session.scalar(select(exists().where(Job.audit_id == audit.id, Job.attempt > 0)))
    return (State.RUNNING if started else State.QUEUED), None


def fail(session: Session, audit_id: uuid.UUID, error: dict[str, Any]) -> bool:
    """Store why an audit has no summary, unless it has ended already; say whether stored."""
    return _finish(session, audit_id, {"state": State.FAILED, "error": error})


def cancel(session: Session, audit_id: uuid.UUID) -> bool:
    """End an audit and its open comparisons as cancelled, unless it has ended already; say whether stored."""
    if not _finish(session, audit_id, {"state": State.CANCELLED}):
        return False
    still_open = select(Comparison.id).where(Comparison.audit_id == audit_id, Comparison.state.not_in(FINAL))
    for comparison_id in session.scalars(still_open).all():
        comparisons.cancel(session, comparison_id)
    return True


def conclude(session: Session, audit_id: uuid.UUID) -> None:
    """Close an audit whose comparisons have all ended: state and summary. Does nothing to one that is closed."""
    _end_broken(session, audit_id)
    states, verdicts = _counts(session, audit_id)
    found = session.execute(
        select(Finding.dimension, Finding.verdict, func.count())
        .where(Finding.audit_id == audit_id)
        .group_by(Finding.dimension, Finding.verdict)
        .order_by(Finding.dimension, Finding.verdict)
    ).all()
    findings: dict[str, dict[str, int]] = {}
    for dimension, verdict, number in found:
        findings.setdefault(dimension, {})[verdict] = number
    summary = {"comparisons": sum(states.values()), "states": states, "verdicts": verdicts, "findings": findings}
    summary["accuracy_groups"] = audit_tests.conclude(session, audit_id)
    _finish(session, audit_id, {"state": State.SUCCEEDED, "summary": summary})


def _end_broken(session: Session, audit_id: uuid.UUID) -> None:
    # A compare job that was lost stored nothing, so its comparison is still open.
    rows = session.execute(
        select(Comparison.id, Job.error)
        .join(Job, Job.comparison_id == Comparison.id)
        .where(Comparison.audit_id == audit_id, Comparison.state.not_in(FINAL), Job.kind == JobKind.COMPARE)
        .where(Job.state.in_(ENDED_BADLY))
    ).all()
    for comparison_id, error in rows:
        message = "The comparison's job was cancelled before it had an answer; ask for the comparison again."
        stored = error or {"class": "usage", "code": "cancelled", "message": message}
        comparisons.fail(session, comparison_id, stored)


def _counts(session: Session, audit_id: uuid.UUID) -> tuple[dict[str, int], dict[str, int]]:
    rows = session.execute(select(Comparison.state, Comparison.verdict).where(Comparison.audit_id == audit_id)).all()
    states = Counter(str(row.state) for row in rows)
    verdicts = Counter(str(row.verdict) for row in rows if row.verdict is not None)
    return dict(sorted(states.items())), dict(sorted(verdicts.items()))


def _finish(session: Session, audit_id: uuid.UUID, values: dict[str, Any]) -> bool:
    statement = update(Audit).where(Audit.id == audit_id, Audit.state.not_in(FINAL))
    statement = statement.values(finished_at=now(), **values)
    ended = session.scalar(statement.returning(Audit.id).execution_options(synchronize_session=False))
    if ended is None:
        return False
    outbox.audit_ended(session, audit_id)
    return True


def _in_state(state: State) -> tuple[ColumnElement[bool], ...]:
    of_audit = exists().where(Job.audit_id == Audit.id)
    return shown_states.conditions(
        Audit.state,
        state,
        started=of_audit.where(Job.attempt > 0),
        broken=of_audit.where(Job.kind.in_(_CLOSING), Job.state.in_(ENDED_BADLY)),
    )


LISTED = Listed(
    Audit,
    Audit.id,
    sorts={"created_at": Audit.created_at, "finished_at": Audit.finished_at},
    sort="-created_at",
    filters={
        "state": _in_state,
        # Names of zoos hold no quotes, so that the list's JSON shows them as they are.
        "zoo": lambda zoo: cast(Audit.zoos, Text).contains(f'"{zoo}"', autoescape=True),
        "since": lambda time: Audit.created_at >= time,
        "until": lambda time: Audit.created_at < time,
    },
    by_value=("state", "zoo"),
)
