"""The very items on which two models agree or disagree, read from their stored predictions."""

from __future__ import annotations

import ast
import zipfile
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.db import comparisons, retention
from app.domain.storage import file_path
from app.errors import GoneError, InvalidError, NotFoundError

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session

    from app.db.paging import Selection
    from app.settings import Settings

CELLS = ("both_right", "a_only", "b_only", "both_wrong_same", "both_wrong_different")
"""The cells of the ledger: who is right about an item."""

_WORDS = {"<i4": "i", "<f4": "f", "<i8": "q"}


@dataclass(frozen=True)
class Answers:
    """One model's stored answers: labels (n), and ``k`` classes and scores an item, best first."""

    labels: Sequence[int]
    classes: Sequence[int]
    scores: Sequence[float]
    ids: Sequence[Any] | None
    k: int

    def best(self, item: int) -> dict[str, Any]:
        """Return the best class of an item and its score."""
        return {"class": self.classes[item * self.k], "score": self.scores[item * self.k]}


def find(session: Session, settings: Settings, comparison_id: uuid.UUID, wanted: Selection) -> dict[str, Any]:
    """Return a page of a comparison's items in the data set's order, as JSON.

    Of the filters ``cell`` keeps one cell of the ledger, ``label`` one right class, ``min_score`` items that at least
    one of the two models answered with that score. Raises NotFoundError when the comparison has no answers to show.
    """
    a, b = (_read(session, settings, comparison_id, sha256) for sha256 in _files(session, comparison_id))
    cell, label = wanted.filters.get("cell"), wanted.filters.get("label")
    min_score = wanted.filters.get("min_score", 0.0)
    items: list[dict[str, Any]] = []
    for number in range(_start(wanted.cursor), len(a.labels)):
        shown = _item(number, a, b)
        if cell not in {None, shown["cell"]} or label not in {None, shown["label"]}:
            continue
        if max(shown["a"]["score"], shown["b"]["score"]) < min_score:
            continue
        if len(items) == wanted.limit:
            return {"items": items, "next_cursor": str(number)}
        items.append(shown)
    return {"items": items, "next_cursor": None}


def _files(session: Session, comparison_id: uuid.UUID) -> list[str]:
    comparison = comparisons.get(session, comparison_id)
    if comparison is None:
        raise NotFoundError(f"There is no comparison {comparison_id}.")
    sides = [(comparison.result or {}).get(side, {}).get("predictions") for side in ("a", "b")]
    if not (comparison.result or {}).get("accuracy") or None in sides:
        raise NotFoundError(
            f"Comparison {comparison_id} has no items: its accuracy was not measured, or not yet.", slug="no-items"
        )
    return [str(side) for side in sides]


def _start(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isdecimal() or not cursor.isascii():
        raise InvalidError("The cursor is not one that this list gave; start again without.", slug="malformed-cursor")
    return int(cursor)


def _item(number: int, a: Answers, b: Answers) -> dict[str, Any]:
    label, best_a, best_b = a.labels[number], a.best(number), b.best(number)
    right_a, right_b = best_a["class"] == label, best_b["class"] == label
    if right_a or right_b:
        cell = "both_right" if right_a and right_b else ("a_only" if right_a else "b_only")
    else:
        cell = "both_wrong_same" if best_a["class"] == best_b["class"] else "both_wrong_different"
    ids = a.ids or b.ids
    return {
        "item": number,
        "id": None if ids is None else str(ids[number]),
        "label": label,
        "cell": cell,
        "a": best_a,
        "b": best_b,
    }


def _read(session: Session, settings: Settings, comparison_id: uuid.UUID, sha256: str) -> Answers:
    path = file_path(settings.data_dir, sha256)
    if not path.exists() and (at := retention.deleted_at(session, comparison_id)):
        raise GoneError(
            f"The predictions by item of comparison {comparison_id} were deleted on {at:%Y-%m-%d}, as long after their "
            "last use as they are kept; its results stay. Ask for the comparison again to measure them anew.",
            slug="raw-files-deleted",
        )
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            labels, _ = _array(archive, "labels")
            classes, shape = _array(archive, "classes")
            scores, _ = _array(archive, "scores")
            ids = _ids(archive) if "ids.npy" in names else None
    except (OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise NotFoundError(
            f"The predictions of comparison {comparison_id} cannot be read from the data folder ({error}); ask for the "
            "comparison again.",
            slug="no-items",
        ) from error
    return Answers(labels, classes, scores, ids, shape[1])


def _array(archive: zipfile.ZipFile, name: str) -> tuple[array[Any], tuple[int, ...]]:
    """Read a little-endian array that the engine wrote; this side of the service has no numpy."""
    kind, shape, content = _member(archive, name)
    values = array(_WORDS[kind])
    values.frombytes(content)
    return values, shape


def _ids(archive: zipfile.ZipFile) -> Sequence[Any]:
    kind, _, content = _member(archive, "ids")
    if kind in _WORDS:
        return _array(archive, "ids")[0]
    width = 4 * int(kind.removeprefix("<U"))
    return list(_texts(content, width))


def _texts(content: bytes, width: int) -> Iterator[str]:
    for start in range(0, len(content), width):
        yield content[start : start + width].decode("utf-32-le").rstrip("\0")


def _member(archive: zipfile.ZipFile, name: str) -> tuple[str, tuple[int, ...], bytes]:
    """Return type, shape and content of an array; format: numpy.lib.format, versions 1.0 and 2.0."""
    raw = archive.read(f"{name}.npy")
    start, width = (10, 2) if raw[6] == 1 else (12, 4)
    end = start + int.from_bytes(raw[8 : 8 + width], "little")
    header = ast.literal_eval(raw[start:end].decode("latin-1").strip())
    return header["descr"], header["shape"], raw[end:]
