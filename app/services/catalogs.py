"""Reading what zoos publish: one job a zoo, unless its catalog stands already."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from app.db import job_graph, jobs, listings, progress
from app.domain.plan import JobSpec
from app.domain.states import FINAL, JobKind, State
from app.services.submission import ready

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from app.domain.zoos import Zoo


def specs(session: Session, zoos: Iterable[Zoo]) -> list[JobSpec]:
    """Return the jobs that read the zoos' catalogs; none for a zoo whose catalog is of the installed version.

    A team's own folder is always read again, because its content may change without a version.
    """
    stored = listings.catalogs(session)
    return [
        JobSpec(
            f"catalog {zoo.name}",
            JobKind.CATALOG,
            {"zoo": zoo.name, "folder": zoo.folder},
            work_key=f"catalog {zoo.name} {zoo.folder or ''}".strip(),
            priority=5,
            team=zoo.team,
        )
        for zoo in zoos
        if zoo.name not in stored or not _current(zoo, stored[zoo.name].version)
    ]


def _current(zoo: Zoo, stored: str) -> bool:
    if zoo.folder is not None:
        return False
    try:
        installed = version(zoo.name)
    except PackageNotFoundError:
        # The service runs without the zoos' packages; only a worker can know, so it reads again.
        return False
    # A build tag (+cpu) changes nothing about what is published.
    return installed.partition("+")[0] == stored.partition("+")[0]


def refresh(session: Session, zoos: Iterable[Zoo]) -> dict[str, list[uuid.UUID]]:
    """Store the jobs that read these catalogs, where they are out of date; return them for ringing."""
    wanted = specs(session, zoos)
    return ready(wanted, jobs.add(session, wanted))


def show(session: Session, job_ids: Sequence[uuid.UUID]) -> dict[str, Any]:
    """Return how far the reading of catalogs is, as ``{"state", "progress", "error"}``."""
    found = job_graph.closure(session, job_ids)
    failed = [job for job in found if job.state in (State.FAILED, State.CANCELLED)]
    ended = all(job.state in FINAL for job in found)
    state = (State.FAILED if failed else State.SUCCEEDED) if ended else State.RUNNING
    error = failed[0].error if failed else None
    return {"state": state, "progress": progress.progress(session, job_ids), "error": error}
