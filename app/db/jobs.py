"""The only place that writes job state: add, claim, heartbeat, finish, cancel, recover.

Delivery is at least once, the claim once, the commit once. Every write of a worker is fenced by the attempt it was
given: when it finds no row, the lease was lost and the worker must write nothing. Every time is the database's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    CursorResult,
    Text,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased
from structlog.contextvars import get_contextvars

from app import tracing
from app.db.clock import now, present
from app.db.tables import ACTIVE, Job, JobNeed
from app.db.teams import acting, may_see
from app.domain.ids import new_id
from app.domain.states import FINAL, FailureClass, State
from app.domain.teams import SHARED

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Update
    from sqlalchemy.orm import Session

    from app.domain.plan import JobSpec

_ACTIVE = (State.QUEUED, State.RUNNING)
BACK_OFF_S = 5.0
"""Seconds before a job that failed is tried again, times its failures so far."""


class LeaseLostError(Exception):
    """Another attempt owns the job by now; nothing of this one may be stored."""


@dataclass(frozen=True)
class Claim:
    """A job that this worker may run, as long as its heartbeats succeed.

    ``spent`` counts the attempts before this one that failed or lost their worker; those that were handed back cost
    nothing. ``request_id`` is that of the request that made the job.
    """

    id: uuid.UUID
    attempt: int
    kind: str
    payload: dict[str, Any]
    comparison_id: uuid.UUID | None
    audit_id: uuid.UUID | None
    team: str
    traceparent: str | None
    spent: int
    request_id: str | None


_NONE_YET: dict[str, Any] = dict.fromkeys(("attempt", "lease_losses", "spent"), literal_column("0"))
_ADDING = {
    dialect.dialect.name: dialect.insert(Job.__table__)
    .values(state=literal_column(f"'{State.QUEUED}'"), cancel_requested=false(), **_NONE_YET)
    .on_conflict_do_nothing(index_elements=["work_key"], index_where=ACTIVE)
    .returning(Job.__table__.c.id)
    for dialect in (postgresql, sqlite)
}
"""Of the table itself: many jobs are added, and as objects they take several times as long.

What is the same of all stands in the text: psycopg translates statements of more than 50 parameters anew each time.
"""


def add(
    session: Session,
    specs: Iterable[JobSpec],
    *,
    comparison_id: uuid.UUID | None = None,
    audit_id: uuid.UUID | None = None,
    known: dict[str, uuid.UUID] | None = None,
) -> dict[str, uuid.UUID]:
    """Store jobs in order; return their ids by handle.

    ``known`` holds handles of jobs stored before that these may need. A spec whose ``work_key`` is active already
    becomes that job; the team that a spec leaves open is the session's. The request id that lines are logged with is
    stored too: those of the worker then have it.
    """
    ids = dict(known or {})
    wanted: dict[str, JobSpec] = {}
    for spec in specs:
        if spec.handle not in ids:
            wanted.setdefault(spec.handle, spec)
    rows = {handle: _row(session, spec) for handle, spec in wanted.items()}
    joined = _store(session, rows, comparison_id=comparison_id, audit_id=audit_id) if rows else {}
    ids |= {handle: row["id"] for handle, row in rows.items()} | joined
    needs = [
        {"job_id": ids[handle], "role": role, "needs_id": ids[needed]}
        for handle in rows
        if handle not in joined
        for role, needed in wanted[handle].needs.items()
    ]
    if needs:
        session.execute(insert(JobNeed.__table__), needs)  # type: ignore[arg-type]  # it is a table
    return ids


def _row(session: Session, spec: JobSpec) -> dict[str, Any]:
    team = spec.team or acting(session)
    # What a team does by itself is found by that team alone.
    work_key = spec.work_key if spec.work_key is None or team == SHARED else f"{spec.work_key} of {team}"
    return {
        "id": spec.id or new_id(),
        "kind": spec.kind,
        "priority": spec.priority,
        "payload": spec.payload,
        "work_key": work_key,
        "team": team,
        "exclusive": spec.exclusive,
        "device": spec.device,
    }


def _store(session: Session, rows: Mapping[str, dict[str, Any]], **owner: uuid.UUID | None) -> dict[str, uuid.UUID]:
    """Store jobs but those whose work is active already; return the ids of the active ones by handle."""
    # Of one time, so that jobs of one priority go in the order of their ids, which is that of the specs.
    begun = {"traceparent": tracing.context(), "request_id": get_contextvars().get("request_id"), **owner}
    common = {"created_at": now(), **{name: value for name, value in begun.items() if value is not None}}
    adding = _ADDING[session.get_bind().dialect.name].values(available_at=present(session))
    joined: dict[str, uuid.UUID] = {}
    # In one order everywhere, or two submitters that share more than one key would wait for each other.
    left = dict(sorted(rows.items(), key=lambda item: item[1]["work_key"] or ""))
    # Two may add the same work at once: the unique index lets one win, the other finds it on its look.
    for _ in range(3):
        made = set(session.scalars(adding, [common | row for row in left.values()]))
        missed = {handle: row["work_key"] for handle, row in left.items() if row["id"] not in made}
        active = _active(session, missed.values())
        joined |= {handle: active[work_key] for handle, work_key in missed.items() if work_key in active}
        left = {handle: left[handle] for handle in missed if handle not in joined}
        if not left:
            return joined
    raise RuntimeError(f"jobs {sorted(left)} were added and ended three times while they were being added here")


def _active(session: Session, work_keys: Collection[str]) -> dict[str, uuid.UUID]:
    if not work_keys:
        return {}
    # Shared with others who join them, but not with who cancels: that one has to see who needs it by now (``hold``).
    active = select(Job.work_key, Job.id).where(Job.work_key.in_(work_keys), Job.state.in_(_ACTIVE)).order_by(Job.id)
    return {row.work_key: row.id for row in session.execute(active.with_for_update(read=True))}


def ready(session: Session) -> ColumnElement[bool]:
    """Queued, due, and every job it needs has ended, however it ended."""
    needed = aliased(Job)
    waiting = exists().where(
        JobNeed.job_id == Job.id, needed.id == JobNeed.needs_id, needed.state.not_in([str(state) for state in FINAL])
    )
    return and_(Job.state == State.QUEUED, Job.available_at <= present(session), ~waiting)


def get(session: Session, job_id: uuid.UUID) -> Job | None:
    """Return one job, if the session's team may see it."""
    job = session.get(Job, job_id)
    return job if job is not None and may_see(session, job.team) else None


def claim_next(
    session: Session, *, worker: str, device: str, places: Mapping[str, str], lease_s: float
) -> Claim | None:
    """Claim the most urgent ready job of a device class, or return None."""
    other = aliased(Job)
    taken = exists().where(other.state == State.RUNNING, other.exclusive_on == places[device])
    # However many jobs wait for the device, the others are found behind them.
    candidates = select(Job.id).where(ready(session), Job.device == device, or_(~Job.exclusive, ~taken))
    order = (Job.priority.desc(), Job.created_at, Job.id)
    for job_id in session.scalars(candidates.order_by(*order).limit(20)).all():
        if claimed := claim(session, job_id, worker=worker, places=places, lease_s=lease_s):
            return claimed
    return None


def claim(
    session: Session, job_id: uuid.UUID, *, worker: str, places: Mapping[str, str], lease_s: float
) -> Claim | None:
    """Claim one job if it is ready; None when it is not, or when its device is taken.

    ``places`` names the worker's device of each class, the same for every worker that shares it. An exclusive job
    holds the name as long as it runs: a unique index lets one row have it.
    """
    row = session.execute(select(Job.exclusive, Job.device).where(Job.id == job_id)).one_or_none()
    if row is None:
        return None
    statement = (
        update(Job)
        .where(Job.id == job_id, ready(session))
        .values(
            state=State.RUNNING,
            attempt=Job.attempt + 1,
            worker=worker,
            lease_until=present(session, lease_s),
            exclusive_on=places[row.device] if row.exclusive else None,
            started_at=present(session),
            progress=None,
            change=_change(session),
        )
        .returning(
            Job.id,
            Job.attempt,
            Job.kind,
            Job.payload,
            Job.comparison_id,
            Job.audit_id,
            Job.team,
            Job.traceparent,
            Job.spent,
            Job.request_id,
        )
        .execution_options(synchronize_session=False)
    )
    try:
        with session.begin_nested():
            claimed = session.execute(statement).one_or_none()
    except IntegrityError:
        return None  # another exclusive job runs on this device
    return None if claimed is None else Claim(*claimed)


def _fenced(claim: Claim) -> Update:
    return (
        update(Job)
        .where(Job.id == claim.id, Job.state == State.RUNNING, Job.attempt == claim.attempt)
        .execution_options(synchronize_session=False)
    )


def heartbeat(session: Session, claim: Claim, *, lease_s: float, progress: dict[str, Any] | None) -> bool:
    """Extend the lease and store the progress; return whether cancellation was asked for. Raises LeaseLostError."""
    values: dict[str, Any] = {"lease_until": present(session, lease_s)}
    if progress is not None:
        values["progress"] = progress
    row = session.execute(_fenced(claim).values(**values).returning(Job.cancel_requested)).one_or_none()
    if row is None:
        raise LeaseLostError(f"job {claim.id}, attempt {claim.attempt}")
    return bool(row.cancel_requested)


def take_to_finish(session: Session, claim: Claim) -> None:
    """Begin the committing transaction: holds the row while this attempt still owns it. Raises LeaseLostError."""
    if not _rows(session, _fenced(claim).values(worker=Job.worker)):
        raise LeaseLostError(f"job {claim.id}, attempt {claim.attempt}")


def succeed(session: Session, claim: Claim, *, measurement_id: uuid.UUID | None = None) -> None:
    """End the job well, in the same transaction as its results. Raises LeaseLostError."""
    _end(session, claim, state=State.SUCCEEDED, measurement_id=measurement_id, error=None, failure_class=None)


def fail(
    session: Session, claim: Claim, failure_class: FailureClass, error: dict[str, Any], *, max_attempts: int
) -> State:
    """End the job badly, or queue it again when the failure may pass; return the new state. Raises LeaseLostError."""
    spent = claim.spent + 1
    if failure_class is FailureClass.TRANSIENT and spent < max_attempts:
        return _queue_again(session, claim, after_s=BACK_OFF_S * spent, error=error, spent=spent)
    _end(session, claim, state=State.FAILED, error=error, failure_class=failure_class)
    return State.FAILED


def give_back(session: Session, claim: Claim, *, after_s: float = 0.0) -> State:
    """Queue a job again that this worker will not finish, which is not the job's fault; return its new state.

    It is cancelled instead where that was asked for. Raises LeaseLostError.
    """
    return _queue_again(session, claim, after_s=after_s)


def wait_for(session: Session, claim: Claim, needs: dict[str, uuid.UUID]) -> None:
    """Queue a job again until more jobs, by role, have ended too: its next attempt has what they left.

    Raises LeaseLostError.
    """
    _queue_again(session, claim, after_s=0.0)
    session.add_all(JobNeed(job_id=claim.id, role=role, needs_id=needed) for role, needed in needs.items())
    session.flush()


def finish_cancelled(session: Session, claim: Claim) -> None:
    """End a job whose cancellation was asked for. Raises LeaseLostError."""
    _end(session, claim, state=State.CANCELLED)


def _queue_again(session: Session, claim: Claim, *, after_s: float, **values: Any) -> State:  # noqa: ANN401 - columns
    # Nobody would look at the flag before the next attempt's first heartbeat.
    cancelled = Job.cancel_requested
    statement = _fenced(claim).values(
        state=case((cancelled, State.CANCELLED), else_=State.QUEUED),
        finished_at=case((cancelled, present(session))),
        lease_until=None,
        exclusive_on=None,
        available_at=present(session, after_s),
        rung_at=None,
        change=_change(session),
        **values,
    )
    state = session.scalar(statement.returning(Job.state))
    if state is None:
        raise LeaseLostError(f"job {claim.id}, attempt {claim.attempt}")
    return State(state)


def _end(session: Session, claim: Claim, **values: Any) -> None:  # noqa: ANN401 - column values
    ended = {"lease_until": None, "exclusive_on": None, "finished_at": present(session), "change": _change(session)}
    if not _rows(session, _fenced(claim).values(**ended, **values)):
        raise LeaseLostError(f"job {claim.id}, attempt {claim.attempt}")


def _change(session: Session) -> ColumnElement[int]:
    """Return the number of the change that this transaction makes to a job's state (``app.db.job_changes``)."""
    if session.get_bind().dialect.name == "postgresql":
        return cast(cast(func.pg_current_xact_id(), Text), BigInteger)
    other = aliased(Job)
    return select(func.coalesce(func.max(other.change), 0) + 1).scalar_subquery()


def _rows(session: Session, statement: Update) -> int:
    result = session.execute(statement)
    assert isinstance(result, CursorResult)  # noqa: S101 - an UPDATE has a row count
    return result.rowcount


def request_cancel(session: Session, job_ids: Sequence[uuid.UUID]) -> None:
    """Cancel jobs: queued ones at once, running ones at their next heartbeat."""
    for job_id in job_ids:
        queued = (
            update(Job)
            .where(Job.id == job_id, Job.state == State.QUEUED)
            .values(state=State.CANCELLED, finished_at=present(session), change=_change(session))
        )
        if not _rows(session, queued.execution_options(synchronize_session=False)):
            # Whoever asks for the same work from now on needs a job of its own, not this one's last moments.
            running = (
                update(Job)
                .where(Job.id == job_id, Job.state == State.RUNNING)
                .values(cancel_requested=True, work_key=None)
            )
            session.execute(running.execution_options(synchronize_session=False))


def hold(session: Session, job_ids: Iterable[uuid.UUID]) -> None:
    """Keep others from changing or joining these jobs until this transaction ends."""
    rows = select(Job.id).where(Job.id.in_(job_ids)).order_by(Job.id)
    session.execute(rows.with_for_update(key_share=True)).all()


def recover(
    session: Session, *, max_attempts: int, back_off_s: float, longest_s: float
) -> tuple[list[uuid.UUID], list[uuid.UUID]]:
    """Deal with running jobs whose lease has expired: queue again with back-off, or fail as lost.

    The back-off is ``back_off_s`` times the attempts that failed or were lost, at most ``longest_s``. A job that its
    worker is ending at this moment is left to it. Returns the ids queued again and the ids failed.
    """
    expired = and_(Job.state == State.RUNNING, Job.lease_until < present(session))
    requeued, failed = [], []
    rows = select(Job.id, Job.attempt, Job.spent, Job.cancel_requested).where(expired)
    # Waiting for one long commit would keep all other jobs waiting.
    rows = rows.with_for_update(skip_locked=True, key_share=True)
    for job_id, attempt, before, cancel in session.execute(rows).all():
        spent = before + 1
        values: dict[str, Any] = {
            "lease_until": None,
            "exclusive_on": None,
            "lease_losses": Job.lease_losses + 1,
            "spent": spent,
            "change": _change(session),
        }
        if cancel:
            values |= {"state": State.CANCELLED, "finished_at": present(session)}
        elif spent >= max_attempts:
            values |= {"state": State.FAILED, "finished_at": present(session), **_lost(spent)}
        else:
            again = present(session, min(back_off_s * spent, longest_s))
            values |= {"state": State.QUEUED, "available_at": again, "rung_at": None}
        fenced = update(Job).where(Job.id == job_id, Job.attempt == attempt, expired).values(**values)
        if _rows(session, fenced.execution_options(synchronize_session=False)):
            if values["state"] is State.QUEUED:
                requeued.append(job_id)
            elif values["state"] is State.FAILED:
                failed.append(job_id)
    return requeued, failed


def _lost(times: int) -> dict[str, Any]:
    tries = "attempt at this job has" if times == 1 else "attempts at this job have"
    message = f"{times} {tries} failed, the last because its worker died; look at the worker's log for the reason."
    error = {"class": FailureClass.LOST, "code": "worker-lost", "message": message}
    return {"failure_class": FailureClass.LOST, "error": error}


def needs(session: Session, job_id: uuid.UUID) -> dict[str, Job]:
    """Return the jobs that a job needed, by role."""
    rows = session.execute(
        select(JobNeed.role, Job).join(Job, Job.id == JobNeed.needs_id).where(JobNeed.job_id == job_id)
    )
    return {role: job for role, job in rows}  # noqa: C416 - rows are not pairs to dict()
