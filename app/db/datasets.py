"""Data sets that predictions are made on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.db.paging import Listed
from app.db.tables import Dataset
from app.db.teams import own_first
from app.domain.teams import SHARED
from app.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    import uuid

    from sqlalchemy import Select
    from sqlalchemy.orm import Session


RECORDED = "recorded"
"""Format of a data set that is known by the labels of imported predictions alone."""


def by_name(session: Session, name: str) -> Dataset | None:
    """Return one data set: of one name the team's own, else the shared one."""
    return session.scalar(_named(session, name))


def _named(session: Session, name: str) -> Select[Dataset]:
    return select(Dataset).where(Dataset.name == name).order_by(own_first(session, Dataset.team)).limit(1)


def get(session: Session, dataset_id: uuid.UUID) -> Dataset:
    """Return the data set of an id that another row holds."""
    return session.get_one(Dataset, dataset_id)


def known(session: Session) -> list[Dataset]:
    """Return every data set by name."""
    return list(session.scalars(select(Dataset).order_by(Dataset.name)))


LISTED = Listed(
    Dataset,
    Dataset.id,
    sorts={"name": Dataset.name, "created_at": Dataset.created_at},
    sort="name",
    filters={"format": None, "label_space": None},
)


def add(session: Session, dataset: Dataset) -> None:
    """Store a data set; raises ConflictError when its name is taken."""
    taken = ConflictError(
        f"There is a data set {dataset.name!r} already; give this one another name.", slug="dataset-exists"
    )
    if by_name(session, dataset.name) is not None:
        raise taken
    try:
        with session.begin_nested():
            session.add(dataset)
            session.flush()
    except IntegrityError as error:
        raise taken from error


def fill(
    session: Session,
    name: str,
    *,
    team: str = SHARED,
    items: int,
    classes: int | None,
    digest: str,
    labels_digest: str,
    label_space: str | None,
) -> Dataset:
    """Note what a team's data set holds, at its first use; afterwards check that it still holds the same.

    Raises NotFoundError for an unknown name, ConflictError when the items' digest is another than the first time.
    """
    dataset = session.scalar(select(Dataset).where(Dataset.name == name, Dataset.team == team).with_for_update())
    if dataset is None:
        raise NotFoundError(f"There is no data set {name!r}.", slug="unknown-dataset")
    if dataset.digest is not None and dataset.digest != digest:
        raise ConflictError(
            f"The items of data set {name!r} have changed: there were {dataset.items:,} with the digest "
            f"{dataset.digest[:12]}…, and there are {items:,} with {digest[:12]}… now, so new predictions cannot be "
            "compared with stored ones. Restore the files, or add the changed ones as another data set.",
            slug="dataset-changed",
            dataset=name,
            expected={"items": dataset.items, "digest": dataset.digest},
            seen={"items": items, "digest": digest},
        )
    _check_labels(dataset, labels_digest)
    dataset.digest, dataset.items, dataset.classes = digest, items, classes
    dataset.labels_digest = labels_digest
    dataset.label_space = dataset.label_space or label_space
    session.flush()
    return dataset


def join(
    session: Session, name: str, *, items: int, classes: int, labels_digest: str, label_space: str | None
) -> Dataset:
    """Return the data set that imported predictions are on; one that nobody knew is made, known by its labels alone.

    Raises ConflictError when the labels are others than the data set's.
    """
    while (dataset := session.scalar(_named(session, name).with_for_update())) is None:
        made = Dataset(name=name, format=RECORDED, path=None, label_space=label_space, digest=labels_digest)
        made.items, made.classes, made.labels_digest = items, classes, labels_digest
        try:
            add(session, made)
        except ConflictError:
            continue  # another import has made it meanwhile
        return made
    _check_labels(dataset, labels_digest)
    dataset.labels_digest = labels_digest
    if dataset.format == RECORDED:
        dataset.classes = max(dataset.classes or 0, classes)
    session.flush()
    return dataset


def _check_labels(dataset: Dataset, labels_digest: str) -> None:
    if dataset.labels_digest is not None and dataset.labels_digest != labels_digest:
        raise ConflictError(
            f"The labels of data set {dataset.name!r} have the digest {dataset.labels_digest}, and these "
            f"{labels_digest}: they are other items, or the same in another order. Give item ids in both files, or "
            "choose another name for the data set.",
            slug="labels-differ",
        )
