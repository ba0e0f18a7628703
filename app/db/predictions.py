"""What models answered on data sets: live and imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from app.db.datasets import by_name
from app.db.paging import Listed
from app.db.tables import Dataset, Measurement, Prediction
from app.domain.ids import new_id

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement, Select
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
    named = by_name(session, dataset)
    if named is None:
        return {}
    rows = _latest(Prediction.dataset_id == named.id, Prediction.recorded.is_(True))
    if refs is not None:
        rows = rows.where(Prediction.ref.in_(list(refs)))
    return {row.ref: row for row in session.scalars(rows.order_by(Prediction.ref))}


def latest(session: Session, refs: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the latest predictions of these models on each data set, by reference, as JSON; fractions."""
    names = {dataset.id: dataset.name for dataset in session.scalars(select(Dataset))}
    found: dict[str, list[dict[str, Any]]] = {}
    for row in session.scalars(_latest(Prediction.ref.in_(refs)).order_by(Prediction.ref, Prediction.created_at)):
        shown = {"dataset": names[row.dataset_id], "recorded": row.recorded, "items": row.items}
        found.setdefault(row.ref, []).append(shown | {"top1": row.top1, "top5": row.top5})
    return found


def _latest(*conditions: ColumnElement[bool]) -> Select[Prediction]:
    """Return the statement for the latest row of each model and data set among those that meet the conditions."""
    newest_first = (Prediction.created_at.desc(), Prediction.id.desc())
    age = func.row_number().over(partition_by=(Prediction.ref, Prediction.dataset_id), order_by=newest_first)
    ranked = select(Prediction.id, age.label("age")).join(Dataset, Dataset.id == Prediction.dataset_id)
    ages = ranked.where(*conditions).subquery()
    return select(Prediction).join(ages, ages.c.id == Prediction.id).where(ages.c.age == 1)


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


def _on_dataset(name: str) -> ColumnElement[bool]:
    return Prediction.dataset_id == select(Dataset.id).where(Dataset.name == name).scalar_subquery()


LISTED = Listed(
    Prediction,
    Prediction.id,
    sorts={"created_at": Prediction.created_at, "top1": Prediction.top1},
    sort="-created_at",
    filters={"dataset": _on_dataset, "model": lambda ref: Prediction.ref == ref, "recorded": None},
)
