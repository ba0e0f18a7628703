"""What models answered on data sets: live and imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from app.db.paging import Order, Page, page
from app.db.tables import Dataset, Measurement, Prediction
from app.domain.ids import new_id

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

    from sqlalchemy.orm import Session


def keep(session: Session, *, ref: str, dataset: Dataset, recorded: bool, measured: Measurement) -> Prediction:
    """Store what a measurement says of a model on a data set."""
    values = measured.values
    row = Prediction(
        id=new_id(),
        ref=ref,
        dataset_id=dataset.id,
        recorded=recorded,
        job_id=measured.job_id,
        measurement_id=measured.id,
        items=values["items"],
        top1=values["top1"],
        top5=values["top5"],
    )
    session.add(row)
    session.flush()
    return row


def imported(session: Session, dataset: str, refs: Iterable[str] | None = None) -> dict[str, Prediction]:
    """Return the latest imported predictions on a data set, by reference: of these models, or of all."""
    age = func.row_number().over(
        partition_by=Prediction.ref, order_by=(Prediction.created_at.desc(), Prediction.id.desc())
    )
    ranked = (
        select(Prediction.id, age.label("age"))
        .join(Dataset, Dataset.id == Prediction.dataset_id)
        .where(Dataset.name == dataset, Prediction.recorded)
    )
    if refs is not None:
        ranked = ranked.where(Prediction.ref.in_(list(refs)))
    latest = ranked.subquery()
    rows = select(Prediction).join(latest, latest.c.id == Prediction.id).where(latest.c.age == 1)
    return {row.ref: row for row in session.scalars(rows.order_by(Prediction.ref))}


def datasets_of(session: Session, ref: str) -> list[str]:
    """Return the names of the data sets that a model has imported predictions on."""
    statement = select(Dataset.name).join(Prediction, Prediction.dataset_id == Dataset.id)
    return list(
        session.scalars(statement.where(Prediction.ref == ref, Prediction.recorded).distinct().order_by(Dataset.name))
    )


def references(session: Session) -> list[str]:
    """Return every reference that has imported predictions, in order."""
    known = select(Prediction.ref).where(Prediction.recorded)
    return list(session.scalars(known.distinct().order_by(Prediction.ref)))


def an_answer(session: Session, dataset_id: uuid.UUID) -> Measurement | None:
    """Return the measurement behind any predictions on a data set: their file holds its labels."""
    any_one = select(Prediction.measurement_id).where(Prediction.dataset_id == dataset_id).order_by(Prediction.id)
    measurement_id = session.scalar(any_one.limit(1))
    return None if measurement_id is None else session.get(Measurement, measurement_id)


def of_job(session: Session, job_id: uuid.UUID) -> Prediction | None:
    """Return the predictions that a job has stored."""
    return session.scalar(select(Prediction).where(Prediction.job_id == job_id))


def find(session: Session, *, dataset: str | None, ref: str | None, cursor: str | None, limit: int) -> Page[Prediction]:
    """Return a page of predictions, the newest first."""
    statement = select(Prediction)
    if dataset is not None:
        statement = statement.where(Prediction.dataset_id.in_(select(Dataset.id).where(Dataset.name == dataset)))
    if ref is not None:
        statement = statement.where(Prediction.ref == ref)
    order = Order("-created_at", Prediction.created_at, Prediction.id, descending=True)
    return page(session, statement, order, cursor=cursor, limit=limit)
