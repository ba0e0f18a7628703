"""What one listing took over time, and where that changed."""

from __future__ import annotations

import difflib
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from app.db import latency_runs
from app.domain import steps
from app.domain.policies import POLICIES
from app.errors import NotFoundError
from app.services import subjects, zoos

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from app.db.paging import Selection
    from app.db.tables import LatencyRun
    from app.settings import Settings

MARGIN = POLICIES["default"].latency_margin
"""Changes below this fraction are none."""


def find(session: Session, settings: Settings, ref: str, wanted: Selection) -> dict[str, Any]:
    """Return a page of a listing's runs as JSON, each with the step it begins or None.

    Steps are found in the whole history, whatever part of it is asked for. Raises InvalidError for a reference that
    cannot be read, NotFoundError for a listing that was never timed.
    """
    ref = _timed(session, settings, ref)
    found = latency_runs.LISTED.page(session, wanted.within(ref=ref))
    marks = _marks(latency_runs.of_listing(session, ref)) if found.items else {}
    return found.map(lambda run: to_json(run) | {"step": marks.get(run.id)})


def _timed(session: Session, settings: Settings, text: str) -> str:
    """Return the reference under which a listing's runs are stored."""
    known = latency_runs.references(session)
    ref = text if text in known else subjects.read(session, zoos.known(session, settings), text).full_ref
    if ref in known:
        return ref
    near = difflib.get_close_matches(ref, known, n=3, cutoff=0.5)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    raise NotFoundError(
        f"The latency of {ref} was never measured here.{hint} `zooaudit compare A B --dimension latency` does.",
        slug="no-history",
    )


def _marks(runs: Sequence[LatencyRun]) -> dict[uuid.UUID, dict[str, Any]]:
    """Return the step that begins at a run, by its id.

    Runs are compared on the same hardware at the same operating point; other software or bytes of the model are what
    a step may come from, and are named.
    """
    series: dict[tuple[str, str], list[LatencyRun]] = defaultdict(list)
    for run in runs:
        series[run.hardware, run.point_key].append(run)
    marks: dict[uuid.UUID, dict[str, Any]] = {}
    for alike in series.values():
        history = steps.find([run.median_ms for run in alike], margin=MARGIN)
        for step in history.steps:
            marks[alike[step.start].id] = {
                "state": "confirmed",
                "before_ms": step.before,
                "after_ms": step.after,
                "ratio": step.ratio,
                "scatter": step.scatter,
                "changed": _changed(alike[step.start - 1], alike[step.start]),
            }
        for at, level in history.unconfirmed.items():
            marks[alike[at].id] = {
                "state": "unconfirmed",
                "before_ms": level,
                "after_ms": alike[at].median_ms,
                "ratio": alike[at].median_ms / level,
                "scatter": None,
                "changed": _changed(alike[at - 1], alike[at]),
            }
    return marks


def _changed(before: LatencyRun, after: LatencyRun) -> list[dict[str, Any]]:
    """Return what is not the same at two runs, besides their times."""
    was, now = ({"artifact": run.artifact_sha256, **run.software} for run in (before, after))
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    return [{"what": name, "before": was.get(name), "after": now.get(name)} for name in names]


def to_json(run: LatencyRun) -> dict[str, Any]:
    """Return one run as JSON; ms."""
    return {
        "id": str(run.id),
        "ref": run.ref,
        "artifact": run.artifact_sha256,
        "operating_point": run.point,
        "point_key": run.point_key,
        "hardware": run.hardware,
        "fingerprint": run.fingerprint,
        "machine": run.machine,
        "software": run.software,
        "job_id": str(run.job_id),
        "measurement_id": str(run.measurement_id),
        "median_ms": run.median_ms,
        "p90_ms": run.p90_ms,
        "samples": run.samples,
        "blocks": run.blocks,
        "busy_beside": run.busy_beside,
        "void": run.void,
        "created_at": run.created_at.isoformat(),
    }
