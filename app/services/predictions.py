"""Predictions: import what another tool recorded, list what there is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.db import datasets, jobs, predictions
from app.domain.ids import new_id
from app.domain.plan import JobSpec
from app.domain.states import FINAL, JobKind, State
from app.errors import InvalidError, NotFoundError
from app.services import subjects, zoos
from app.services.datasets import check_name
from app.services.submission import Caller, Submitted, earlier, ready

if TYPE_CHECKING:
    import uuid

    from sqlalchemy.orm import Session

    from app.db.paging import Selection
    from app.db.tables import Job, Prediction
    from app.settings import Settings

SUFFIXES = (".npz", ".parquet")
_WAITED_FOR = 4


def submit(session: Session, settings: Settings, request: dict[str, Any], caller: Caller | None = None) -> Submitted:
    """Store the job that imports a file of predictions.

    ``request`` is ``{model, dataset, path, label_space?}``. A data set that is not known yet is made by the import, by
    the labels in the file. Raises InvalidError for what is known to be wrong already.
    """
    import_id = new_id()
    if before := earlier(session, caller or Caller(), kind="import", request=request, resource_id=import_id):
        return Submitted(before, created=False)
    named = subjects.read(session, zoos.known(session, settings), request["model"])
    path = Path(request["path"])
    if not path.is_absolute():
        raise InvalidError(f"{path} is not absolute, so workers cannot find it; write the whole path.", slug="bad-path")
    if path.suffix not in SUFFIXES:
        raise InvalidError(
            f"{path} is no {' or '.join(SUFFIXES)} file; predictions are imported from these.", slug="bad-path"
        )
    dataset = datasets.by_name(session, request["dataset"])
    if dataset is None:
        check_name(request["dataset"])
    spec = JobSpec(
        f"import {import_id}",
        JobKind.IMPORT,
        {
            "listing": named.subject.to_json() | {"ref": named.full_ref},
            "dataset": request["dataset"],
            "path": str(path),
            "label_space": request.get("label_space"),
        },
        priority=_WAITED_FOR,
        id=import_id,
    )
    ids = jobs.add(session, [spec])
    return Submitted(import_id, created=True, ring=ready([spec], ids))


def show_import(session: Session, job_id: uuid.UUID) -> dict[str, Any]:
    """Return how far an import is as JSON, with the predictions once they are there; raises NotFoundError."""
    job = jobs.get(session, job_id)
    if job is None or job.kind != JobKind.IMPORT:
        raise NotFoundError(f"There is no import {job_id}.")
    row = predictions.of_job(session, job_id)
    return {
        "id": str(job.id),
        "state": State(job.state),
        "model": job.payload["listing"]["ref"],
        "dataset": job.payload["dataset"],
        "progress": _progress(job),
        "error": job.error if job.state == State.FAILED else None,
        "prediction": to_json(session, row) if row is not None else None,
    }


def _progress(job: Job) -> dict[str, Any]:
    return {"done": int(job.state in FINAL), "total": 1, "message": (job.progress or {}).get("message")}


def find(session: Session, wanted: Selection) -> dict[str, Any]:
    """Return a page of the predictions that are wanted as JSON."""
    return predictions.LISTED.page(session, wanted).map(lambda row: to_json(session, row))


def to_json(session: Session, row: Prediction) -> dict[str, Any]:
    """Return predictions as JSON; fractions."""
    dataset = datasets.get(session, row.dataset_id)
    return {
        "id": str(row.id),
        "model": row.ref,
        "dataset": dataset.name,
        "recorded": row.recorded,
        "items": row.items,
        "items_digest": dataset.labels_digest if row.recorded else dataset.digest,
        "top1": row.top1,
        "top5": row.top5,
        "created_at": row.created_at.isoformat(),
    }
