"""Data sets: the built-in one and a team's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.db import datasets
from app.db.tables import Dataset
from app.domain.datasets import FORMATS, Format
from app.domain.ids import new_id
from app.errors import InvalidError, NotFoundError
from app.services.submission import Caller, earlier

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.db.paging import Selection

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def find(session: Session, wanted: Selection) -> dict[str, Any]:
    """Return a page of the data sets that are wanted as JSON."""
    return datasets.LISTED.page(session, wanted).map(to_json)


def show(session: Session, name: str) -> dict[str, Any]:
    """Return one data set as JSON; raises NotFoundError."""
    dataset = datasets.by_name(session, name)
    if dataset is None:
        known = ", ".join(item.name for item in datasets.known(session))
        raise NotFoundError(f"There is no data set {name!r}; there are {known}.", slug="unknown-dataset")
    return to_json(dataset)


def add(session: Session, request: dict[str, Any], caller: Caller | None = None) -> dict[str, Any]:
    """Store a data set ``{name, format, path, label_space?, options?}`` and return it as JSON.

    Its items are read at its first use, by a worker: the path is one that the workers see. Raises InvalidError for a
    name, format, path or option that cannot be right, ConflictError for a name that is taken.
    """
    dataset_id = new_id()
    if before := earlier(session, caller or Caller(), kind="dataset", request=request, resource_id=dataset_id):
        return to_json(datasets.get(session, before))
    name, kind, path = request["name"], request["format"], Path(request["path"])
    check_name(name)
    if kind not in FORMATS:
        raise InvalidError(f"There is no data set format {kind!r}; it is {', '.join(FORMATS)}.", slug="invalid-format")
    _check_path(path)
    options = {option: value for option, value in (request.get("options") or {}).items() if value is not None}
    _check_options(FORMATS[kind], options)
    space = request.get("label_space") or FORMATS[kind].label_space
    dataset = Dataset(id=dataset_id, name=name, format=kind, path=str(path), label_space=space, options=options)
    datasets.add(session, dataset)
    return to_json(dataset)


def _check_path(path: Path) -> None:
    if not path.is_absolute():
        raise InvalidError(f"{path} is not absolute, so workers cannot find it; write the whole path.", slug="bad-path")


def _check_options(kind: Format, options: dict[str, str]) -> None:
    for option, value in options.items():
        if option not in kind.options:
            known = ", ".join(kind.options) or "none"
            raise InvalidError(
                f"The format {kind.name} has no option {option} (it has: {known}); leave it out.", slug="invalid-option"
            )
        values = kind.options[option]
        if values and value not in values:
            raise InvalidError(f"{option} is {value!r}; it is {' or '.join(values)}.", slug="invalid-option")
        if option in kind.files:
            _check_path(Path(value))
    for option, what in kind.required.items():
        if option not in options:
            raise InvalidError(f"The format {kind.name} needs {option}: {what}; name it.", slug="option-missing")


def check_name(name: str) -> None:
    """Raise InvalidError unless this can be the name of a data set."""
    if not _NAME.fullmatch(name):
        raise InvalidError(
            f"{name!r} is no name for a data set; use letters, digits, -, _ and ., at most 100.", slug="invalid-name"
        )


def to_json(dataset: Dataset) -> dict[str, Any]:
    """Return a data set as JSON. ``items``, ``classes`` and ``digest`` are null until it was used."""
    return {
        "id": str(dataset.id),
        "name": dataset.name,
        "format": dataset.format,
        "path": dataset.path,
        "label_space": dataset.label_space,
        "options": dataset.options,
        "items": dataset.items,
        "classes": dataset.classes,
        "digest": dataset.digest,
        "created_at": dataset.created_at.isoformat(),
    }
