"""What must be true when everything has ended: read from the database, the data folder and the process table."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text

from app.db.tables import Audit, Comparison, Finding, Job, JobNeed, Measurement, Prediction
from app.domain.storage import file_path

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

    from app.db.session import Database
    from app.settings import Settings
    from chaos.work import Case

FINAL = ("succeeded", "failed", "cancelled")
MEASURING = ("inspect", "import")
WRONG = (
    "jobs not ended",
    "jobs not ended exactly once",
    "changes after an end",
    "attempts claimed twice",
    "jobs that ended before what they need",
    "measurements missing",
    "measurements doubled",
    "measurements of jobs that did not succeed",
    "files missing or wrong",
    "ended otherwise than they have to",
    "wrong numbers",
    "answers missing",
    "findings doubled",
    "temporary files left",
    "orphans after a kill",
    "orphans at the end",
)
"""Figures of a run that have to be zero; the last two are the caller's."""

_LOG = "CREATE TABLE chaos_log (n {serial}, at double precision, job {uuid}, before text, after text, attempt int)"
_NOTE = (
    "INSERT INTO chaos_log (at, job, before, after, attempt) VALUES ({now}, NEW.id, OLD.state, NEW.state, NEW.attempt)"
)
_POSTGRES = """
CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {note}; RETURN NULL; END $$;
CREATE TRIGGER chaos_note AFTER UPDATE OF state, attempt ON jobs FOR EACH ROW
WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.attempt <> NEW.attempt) EXECUTE FUNCTION chaos_note()
"""
_SQLITE = """
CREATE TRIGGER chaos_note AFTER UPDATE OF state, attempt ON jobs
WHEN OLD.state <> NEW.state OR OLD.attempt <> NEW.attempt BEGIN {note}; END
"""


def watch_states(database: Database) -> None:
    """Have the database itself write down every change of a job's state, whoever makes it."""
    with database.write() as session:
        if database.engine.dialect.name == "postgresql":
            session.execute(text(_LOG.format(serial="bigserial", uuid="uuid")))
            now = "extract(epoch from clock_timestamp())"
            for statement in _POSTGRES.format(note=_NOTE.format(now=now)).split("\nCREATE TRIGGER"):
                whole = statement if "FUNCTION chaos_note() RETURNS" in statement else f"CREATE TRIGGER{statement}"
                session.execute(text(whole))
        else:
            session.execute(text(_LOG.format(serial="INTEGER PRIMARY KEY AUTOINCREMENT", uuid="text")))
            now = "(julianday('now') - 2440587.5) * 86400.0"
            session.execute(text(_SQLITE.format(note=_NOTE.format(now=now))))


def changes(session: Session) -> list[Any]:
    """Return every change of a job's state, in order."""
    return list(session.execute(text("SELECT at, job, before, after, attempt FROM chaos_log ORDER BY n")))


def figures(database: Database, settings: Settings, cases: list[Case]) -> dict[str, int]:
    """Return what is wrong, in numbers that have to be zero, and what was done, by name."""
    with database.read() as session:
        jobs = list(session.scalars(select(Job)))
        found = _ends(session, jobs) | _measurements(session, settings, jobs) | _answers(session, cases)
        found["attempts beyond the first"] = sum(max(0, job.attempt - 1) for job in jobs)
        found["attempts that lost their lease"] = sum(job.lease_losses for job in jobs)
        found["jobs given up as lost"] = sum(job.failure_class == "lost" for job in jobs)
    for job in jobs:
        found[f"jobs {job.state}"] = found.get(f"jobs {job.state}", 0) + 1
    found["jobs"] = len(jobs)
    found["temporary files left"] = len(left(settings))
    return found


def left(settings: Settings) -> list[Path]:
    """Return what lies where only what is being worked on may lie."""
    data = settings.data_dir
    folders = (data / "scratch", data / "files" / "partial", data.parent / "tmp")
    return [path for folder in folders for path in folder.glob("*")]


def _ends(session: Session, jobs: list[Job]) -> dict[str, int]:
    """Count jobs that did not end exactly once, by what the database wrote down itself."""
    ended: Counter[str] = Counter()
    attempts: defaultdict[str, list[int]] = defaultdict(list)
    after_end = 0
    for _, job, before, after, attempt in changes(session):
        key = str(job).replace("-", "")
        after_end += before in FINAL
        ended[key] += after in FINAL and before not in FINAL
        if after == "running":
            attempts[key].append(attempt)
    return {
        "jobs not ended": sum(job.state not in FINAL for job in jobs),
        "jobs not ended exactly once": sum(ended[job.id.hex] != 1 for job in jobs),
        "changes after an end": after_end,
        "attempts claimed twice": sum(len(each) - len(set(each)) for each in attempts.values()),
        "jobs that ended before what they need": _too_early(session),
    }


def _too_early(session: Session) -> int:
    needing, needed = select(Job).subquery(), select(Job).subquery()
    early = (
        select(func.count())
        .select_from(JobNeed)
        .join(needing, needing.c.id == JobNeed.job_id)
        .join(needed, needed.c.id == JobNeed.needs_id)
        .where(needing.c.state != "cancelled", needing.c.started_at < needed.c.finished_at)
    )
    return int(session.scalar(early) or 0)


def _measurements(session: Session, settings: Settings, jobs: list[Job]) -> dict[str, int]:
    rows = list(session.scalars(select(Measurement)))
    by_job = Counter(row.job_id for row in rows)
    predictions = Counter(session.scalars(select(Prediction.job_id)))
    good = {job.id: job for job in jobs if job.state == "succeeded" and job.kind in MEASURING}
    missing = sum(job.measurement_id is None for job in good.values())
    missing += sum(predictions[job.id] == 0 for job in good.values() if job.kind == "import")
    wrong = 0
    for row in rows:
        for sha256 in row.files.values():
            path = file_path(settings.data_dir, sha256)
            wrong += not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256
    return {
        "measurements": len(rows),
        "measurements missing": missing,
        "measurements doubled": sum(each > 1 for each in (*by_job.values(), *predictions.values())),
        "measurements of jobs that did not succeed": len(set(by_job) - set(good)),
        "files missing or wrong": wrong,
    }


def _answers(session: Session, cases: list[Case]) -> dict[str, int]:
    """Count cases that did not end as they have to, or not with the right numbers."""
    wrong_end = wrong_number = missing = doubled = 0
    for case in (case for case in cases if case.id is not None):
        if case.kind in {"import", "broken"}:
            job = session.get_one(Job, case.id)
            state, code = job.state, (job.error or {}).get("code")
            if case.kind == "import":
                top1 = session.scalar(select(Prediction.top1).where(Prediction.job_id == case.id))
                wrong_number += top1 is None or abs(top1 - case.top1[0]) > 1e-9
        elif case.kind == "audit":
            state, code = _audit(session, case)
            models = session.scalar(select(func.count()).where(Comparison.audit_id == case.id)) or 0
            ended = select(func.count()).where(Comparison.audit_id == case.id, Comparison.state == "succeeded")
            missing += models - (session.scalar(ended) or 0)
        else:
            row = session.get_one(Comparison, case.id)
            state, code = row.state, (row.error or {}).get("code")
            metrics = select(Finding.dimension, Finding.metric).where(Finding.comparison_id == case.id)
            findings = Counter(tuple(row) for row in session.execute(metrics))
            doubled += sum(number > 1 for number in findings.values())
            missing += state == "succeeded" and not findings
            if case.top1 and state == "succeeded":
                accuracy = (row.result or {})["accuracy"]["top1"]
                wrong_number += any(
                    abs(accuracy[side] - right) > 1e-9 for side, right in zip("ab", case.top1, strict=True)
                )
        # A last attempt whose worker was killed is told as such.
        wrong_end += state not in case.ends or (case.code is not None and code not in {case.code, "worker-lost"})
    return {
        "asked for": len(cases),
        "ended otherwise than they have to": wrong_end,
        "wrong numbers": wrong_number,
        "answers missing": missing,
        "findings doubled": doubled,
    }


def _audit(session: Session, case: Case) -> tuple[str, str | None]:
    row = session.get_one(Audit, case.id)
    return row.state, (row.error or {}).get("code")


def wrong(database: Database, cases: list[Case]) -> list[str]:
    """Describe, for whoever looks for the reason, the first cases and jobs that did not end as they have to."""
    told = []
    with database.read() as session:
        for case in (case for case in cases if case.id is not None):
            if case.kind in {"import", "broken"}:
                row: Any = session.get_one(Job, case.id)
            else:
                row = session.get_one(Audit if case.kind == "audit" else Comparison, case.id)
            if row.state not in case.ends:
                told.append(f"{case.kind} {case.id} is {row.state}: {row.error}")
        once = Counter(str(job).replace("-", "") for _, job, _, after, _ in changes(session) if after in FINAL)
        for job in session.scalars(select(Job)):
            if once[job.id.hex] != 1 or job.state not in FINAL:
                history = [tuple(each) for each in changes(session) if str(each.job).replace("-", "") == job.id.hex]
                told.append(f"job {job.id} {job.kind} {job.state} attempt {job.attempt}: {history}")
    return told[:20]
