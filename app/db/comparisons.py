"""Comparisons: the row, its answer once it stands, and how far it is.

Only final states are stored; until then the row says ``queued``. That a comparison is ``running`` is derived: one of
the jobs it waits for has been started. A job that was lost or failed without storing the comparison's end makes it
``failed`` for the reader, with that job's error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, bindparam, exists, or_, select, update
from sqlalchemy.orm import aliased

from app.db import outbox, shown_states
from app.db.clock import now
from app.db.findings import rows
from app.db.paging import Listed
from app.db.tables import Comparison, Job, JobNeed
from app.domain.numbers import finite
from app.domain.states import FINAL, JobKind, State

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from app.domain.answer import Answer

ENDED_BADLY = (State.FAILED, State.CANCELLED)


def get(session: Session, comparison_id: uuid.UUID, *, to_change: bool = False) -> Comparison | None:
    """Return one comparison; ``to_change`` locks its row until the transaction ends."""
    return session.get(Comparison, comparison_id, with_for_update=to_change or None)


def succeed(session: Session, comparison_id: uuid.UUID, answer: Answer) -> bool:
    """Store an answer with its findings, unless the comparison has ended already (cancelled); say whether stored."""
    values = {"state": State.SUCCEEDED, "verdict": answer.verdict, "result": finite(answer.result)}
    if not _finish(session, comparison_id, values):
        return False
    comparison = session.get_one(Comparison, comparison_id, populate_existing=True)
    session.add_all(rows(comparison, answer.findings))
    session.flush()
    return True


def fail(session: Session, comparison_id: uuid.UUID, error: dict[str, Any]) -> bool:
    """Store why a comparison has no answer, unless it has ended already; say whether stored."""
    return _finish(session, comparison_id, {"state": State.FAILED, "error": error})


def cancel(session: Session, comparison_id: uuid.UUID) -> bool:
    """End a comparison as cancelled, unless it has ended already; say whether stored."""
    return _finish(session, comparison_id, {"state": State.CANCELLED})


def _finish(session: Session, comparison_id: uuid.UUID, values: dict[str, Any]) -> bool:
    open_ = Comparison.state.not_in(FINAL)
    statement = update(Comparison).where(Comparison.id == comparison_id, open_).values(finished_at=now(), **values)
    returning = statement.returning(Comparison.id, Comparison.audit_id)
    ended = session.execute(returning.execution_options(synchronize_session=False)).one_or_none()
    if ended is None:
        return False
    outbox.comparison_ended(session, ended.id, ended.audit_id)
    return True


def _begun(last: type[Job]) -> ColumnElement[bool]:
    needed = aliased(Job)
    needs = exists().where(JobNeed.job_id == last.id, needed.id == JobNeed.needs_id, needed.attempt > 0)
    return or_(last.attempt > 0, needs)


def started() -> ColumnElement[bool]:
    """Whether one of the jobs that a comparison waits for, or the one that ends it, has been started."""
    last = aliased(Job)
    ends = select(last.id).where(last.comparison_id == Comparison.id, last.kind == JobKind.COMPARE, _begun(last))
    # With an offset Postgres asks it of one waiting comparison after the other until a page is full. Without one it
    # would first gather what all jobs that there ever were need.
    return ends.offset(0).exists()


def broken() -> ColumnElement[bool]:
    """Whether the job that would end a comparison has itself ended badly."""
    last = aliased(Job)
    return exists().where(
        last.comparison_id == Comparison.id, last.kind == JobKind.COMPARE, last.state.in_(ENDED_BADLY)
    )


def _in_state(state: State) -> tuple[ColumnElement[bool], ...]:
    return shown_states.conditions(Comparison.state, state, started=started(), broken=broken())


def of_ids(session: Session, ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Comparison]:
    """Return comparisons by id."""
    return {each.id: each for each in session.scalars(select(Comparison).where(Comparison.id.in_(ids)))}


class End(NamedTuple):
    """The job that ends a comparison. ``begun``: it has been started, or one that it needs."""

    job_id: uuid.UUID
    state: str
    error: dict[str, Any] | None
    begun: bool


_last = aliased(Job)
_ENDS = select(_last.comparison_id, _last.id, _last.state, _last.error, _begun(_last)).where(
    _last.kind == JobKind.COMPARE, _last.comparison_id.in_(bindparam("ids", expanding=True))
)
"""Made once: making it takes longer than Postgres takes to answer it."""


def ends(session: Session, comparison_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, End]:
    """Return by comparison the job that ends it; those of many pairs in one job have none."""
    if not comparison_ids:
        return {}
    return {each: End(*of_job) for each, *of_job in session.execute(_ENDS, {"ids": list(comparison_ids)})}


Shown = tuple[State, dict[str, Any] | None]
"""The state that a reader sees of a comparison, and the error with it."""


def shown_by(comparison: Comparison, end: End | None) -> Shown:
    """Return what a reader sees of a comparison whose last job is ``end``."""
    if end is not None and comparison.state == State.QUEUED:
        if end.state in ENDED_BADLY:
            return State.FAILED, end.error
        if end.begun and end.state not in FINAL:
            return State.RUNNING, None
    return State(comparison.state), comparison.error


def shown_each(session: Session, comparisons: Sequence[Comparison]) -> dict[uuid.UUID, Shown]:
    """Return what a reader sees of each comparison, by id."""
    waiting = ends(session, [each.id for each in comparisons if each.state == State.QUEUED])
    return {each.id: shown_by(each, waiting.get(each.id)) for each in comparisons}


def shown(session: Session, comparison: Comparison) -> Shown:
    """Return what a reader sees of a comparison."""
    return shown_each(session, [comparison])[comparison.id]


def _of_zoo(zoo: str) -> tuple[ColumnElement[bool], ...]:
    return (Comparison.zoo_a == zoo, and_(Comparison.zoo_b == zoo, Comparison.zoo_a != zoo))


def _of_listing(ref: str) -> tuple[ColumnElement[bool], ...]:
    return (Comparison.a_ref == ref, and_(Comparison.b_ref == ref, Comparison.a_ref != ref))


LISTED = Listed(
    Comparison,
    Comparison.id,
    sorts={"created_at": Comparison.created_at, "finished_at": Comparison.finished_at},
    sort="-created_at",
    filters={
        "state": _in_state,
        "verdict": None,
        "architecture": None,
        "zoo": _of_zoo,
        "zoo_a": None,
        "zoo_b": None,
        "ref": _of_listing,
        "a_ref": None,
        "b_ref": None,
        "audit_id": None,
        "since": lambda time: Comparison.created_at >= time,
        "until": lambda time: Comparison.created_at < time,
    },
    by_value=("state",),
    # All but the answer, which is long.
    columns=(
        "id audit_id state verdict architecture a_ref b_ref scope error created_at finished_at".split()  # noqa: SIM905
    ),
)
