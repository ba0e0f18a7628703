"""Predictions that another tool recorded: ``.npz`` or Parquet, checked row by row before anything is kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.engine.accuracy import arrays
from workers.engine.accuracy.predictions import TOP, Predictions, labels_digest, rank
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from workers.engine.accuracy.labels import Mapping

_BACKGROUND = -1
_LARGEST_CLASS = int(np.iinfo(np.int32).max)
_MOST_ITEMS = 50_000_000
_MOST_RANKED = 1000
_TWO_AXES = 2
_WORD = 8
"""Bytes of a value of Parquet's widest numbers."""


@dataclass(frozen=True)
class Columns:
    """The arrays of a file of predictions, as they were written: columns of ``classes`` and ``scores`` in any order."""

    labels: NDArray[Any]
    classes: NDArray[Any]
    scores: NDArray[Any]
    ids: NDArray[Any] | None


def read(path: Path, dataset: str, *, classes: int | None = None, mapping: Mapping | None = None) -> Predictions:
    """Read recorded predictions: ``labels`` (n), ``classes`` (n, k), ``scores`` (n, k), and ``ids`` (n) if there are.

    Parquet has the columns ``label``, ``classes`` and ``scores`` (lists of one length), and ``id`` if there is one.
    The items are known by their labels alone, so the items' digest is one of the labels. Item ids, integers or text,
    tell apart items of one label. ``classes`` is the number of classes that the file's answers can have, where that is
    known; ``mapping`` says what they are in the data set's label space. Labels stay as they are (``aligned``).

    Raises UsageError, naming the file, the array and the row that does not fit.
    """
    columns = _of_parquet(path) if path.suffix == ".parquet" else _of_archive(path)
    _check_shapes(path, columns)
    _check_rows(path, columns, classes=classes, labels=classes if mapping is None else mapping.largest)
    # Ranks are cut after the mapping: several of them may be one class of the data set.
    ranked, scores = rank(columns.classes, columns.scores, columns.classes.shape[1])
    if mapping is not None:
        ranked, scores = mapping.merge_ranked(ranked, scores)
    labels = columns.labels.astype(np.int32)
    ids = columns.ids
    if ids is not None and ids.dtype.kind in "OS":
        ids = ids.astype(str)
    provenance = {"recorded": True, "file": path.name}
    return Predictions(labels, ranked[:, :TOP], scores[:, :TOP], labels_digest(labels), dataset, provenance, ids)


def aligned(found: Predictions, known: Predictions, mapping: Mapping | None = None) -> Predictions:
    """Return predictions in the order of the items that a data set already has.

    With ids on both sides the rows are put in that order; else they must have the same labels, row by row. With a
    ``mapping`` the labels are the data set's own, or in the label space of the answers: whichever fit better. Raises
    UsageError that names the first item that does not fit.
    """
    if len(found) != len(known):
        raise UsageError(
            "items-differ",
            f"Array 'labels' has {len(found)} rows, and data set {known.dataset} has {len(known)} items; record all of "
            "them, or choose another name for the data set.",
        )
    if found.ids is not None and known.ids is not None:
        found = _in_order(found, known)
    if mapping is not None and found.labels.max() < len(mapping.targets):
        either = (found.labels, mapping.targets[found.labels])
        found = replace(found, labels=min(either, key=lambda labels: np.count_nonzero(labels != known.labels)))
    differ = found.labels != known.labels
    if differ.any():
        row = int(np.argmax(differ))
        item = f"item {found.ids[row]}" if found.ids is not None else f"row {row}"
        raise UsageError(
            "labels-differ",
            f"Array 'labels', {item} is {found.labels[row]}, but data set {known.dataset} has {known.labels[row]} "
            f"there ({int(differ.sum())} of {len(known)} differ): these are other items or another order of them. "
            "Give item ids, or choose another name for the data set.",
        )
    return replace(found, items_digest=known.items_digest)


def _in_order(found: Predictions, known: Predictions) -> Predictions:
    if found.ids is None or known.ids is None:
        raise ValueError("both need ids")
    ids = found.ids.astype(str)
    order = np.argsort(ids)
    wanted = known.ids.astype(str)
    places = np.searchsorted(ids, wanted, sorter=order)
    rows = order[np.minimum(places, len(order) - 1)]
    missing = ids[rows] != wanted
    if missing.any():
        raise UsageError(
            "ids-missing",
            f"Array 'ids' lacks the item {str(wanted[int(np.argmax(missing))])!r} of data set {known.dataset} "
            f"({int(missing.sum())} of {len(known)} are missing); record them too.",
        )
    return replace(
        found,
        labels=found.labels[rows],
        classes=found.classes[rows],
        scores=found.scores[rows],
        ids=known.ids,
    )


def _of_archive(path: Path) -> Columns:
    archive = arrays.Archive(path)
    archive.require("labels", "classes", "scores")
    for name in ("labels", "classes", "scores", "ids"):
        if name in archive.headers:
            _check_size(path, name, archive.headers[name].shape)
    ids = archive.read("ids") if "ids" in archive.headers else None
    return Columns(archive.read_integers("labels", 1), archive.read_integers("classes", 2), archive.read("scores"), ids)


def _check_size(path: Path, name: str, shape: tuple[int, ...]) -> None:
    """Refuse, by the header alone, what no recorded predictions can be: a small archive may unpack to terabytes."""
    if (shape and shape[0] > _MOST_ITEMS) or (len(shape) == _TWO_AXES and shape[1] > _MOST_RANKED):
        raise UsageError(
            "array-size",
            f"{path}: array {name!r} has the shape {shape}; at most {_MOST_ITEMS:,} items with {_MOST_RANKED:,} ranked "
            "classes each can be imported.",
        )


def _of_parquet(path: Path) -> Columns:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            "no-pyarrow", f"{path} is Parquet, and pyarrow is not installed; run `pip install zooaudit[data]`."
        ) from error
    try:
        file = parquet.ParquetFile(path)
        _check_size(path, "label", (file.metadata.num_rows,))
        present = set(file.schema_arrow.names)
        if missing := [name for name in ("label", "classes", "scores") if name not in present]:
            raise UsageError(
                "array-missing",
                f"{path} has no column {missing[0]!r} (found: {', '.join(sorted(present)) or 'none'}); save it under "
                "that name.",
            )
        _check_values(path, file.metadata)
        table = file.read(columns=[name for name in ("label", "classes", "scores", "id") if name in present])
    except (pa.ArrowException, OSError) as error:
        raise UsageError(
            "parquet-broken", f"{path} cannot be read as Parquet ({error}); write or copy it anew."
        ) from error
    held = {name: _column(path, name, table.column(name)) for name in table.column_names}
    return Columns(held["label"], held["classes"], held["scores"], held.get("id"))


def _check_values(path: Path, metadata: Any) -> None:
    """Refuse by the metadata alone what unpacks to more than an array may have: equal values take no room."""
    values: Counter[str] = Counter()
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(index)
            values[chunk.path_in_schema.partition(".")[0]] += chunk.num_values
    for name in ("label", "classes", "scores", "id"):
        if values[name] * _WORD > arrays.LIMIT_BYTES:
            raise UsageError(
                "array-size",
                f"{path}: column {name!r} unpacks to {values[name] * _WORD} bytes, more than {arrays.LIMIT_BYTES}; "
                "split it.",
            )


def _column(path: Path, name: str, column: Any) -> NDArray[Any]:
    """Return a column as an array; lists, which must have one length, on two axes."""
    import pyarrow as pa

    if column.null_count:
        row = column.is_null().to_numpy().argmax()
        raise UsageError("array-row", f"{path}: column {name!r}, row {row} is null; fill it or leave the row out.")
    column = column.combine_chunks()
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    if lengths.size and (lengths != lengths[0]).any():
        row = int(np.argmax(lengths != lengths[0]))
        raise UsageError(
            "array-shape",
            f"{path}: column {name!r}, row {row} has {lengths[row]} values and row 0 has {lengths[0]}; all rows need "
            "the same number.",
        )
    inner = column.flatten()
    if inner.null_count:
        row = inner.is_null().to_numpy(zero_copy_only=False).argmax() // lengths[0]
        raise UsageError("array-row", f"{path}: column {name!r}, row {row} holds a null; fill it or leave the row out.")
    values = np.asarray(inner.to_numpy(zero_copy_only=False))
    return values.reshape(len(lengths), -1) if lengths.size else values.reshape(0, 0)


def _check_shapes(path: Path, columns: Columns) -> None:
    labels, classes, scores, ids = columns.labels, columns.classes, columns.scores, columns.ids
    wanted: tuple[tuple[str, NDArray[Any], int, type, str], ...] = (
        ("labels", labels, 1, np.integer, "integers on one axis"),
        ("classes", classes, 2, np.integer, "integers on two axes"),
        ("scores", scores, 2, np.floating, "floats on two axes"),
    )
    for name, array, axes, kind, words in wanted:
        if array.ndim != axes or not np.issubdtype(array.dtype, kind) or array.size == 0:
            raise UsageError(
                "array-shape",
                f"{path}: array {name!r} is {array.dtype} {array.shape}; it must hold {words}, and at least one.",
            )
    if scores.shape != classes.shape:
        raise UsageError(
            "array-shape",
            f"{path}: array 'scores' has the shape {scores.shape} and 'classes' {classes.shape}; both need the same.",
        )
    if ids is not None and (ids.ndim != 1 or ids.dtype.kind not in "iuUSO" or not _are_plain(ids)):
        raise UsageError(
            "array-shape", f"{path}: array 'ids' is {ids.dtype} {ids.shape}; it must hold integers or text."
        )
    for name, rows in (("classes", len(classes)), ("ids", len(labels if ids is None else ids))):
        if rows != len(labels):
            raise UsageError(
                "array-shape",
                f"{path}: array {name!r} has {rows} rows, but 'labels' has {len(labels)}; both need one row an item.",
            )


def _are_plain(ids: NDArray[Any]) -> bool:
    """Whether ids read from Parquet, which come as objects, are all text."""
    return ids.dtype != np.object_ or all(isinstance(item, str) for item in ids)


def _check_rows(path: Path, columns: Columns, *, classes: int | None, labels: int | None) -> None:
    """Refuse the first row that cannot be; ``classes`` and ``labels`` are how many of them there are, if known."""
    answers, scores = columns.classes, columns.scores
    ordered = np.sort(answers, axis=1)
    faults: list[tuple[str, Any, str]] = [
        ("labels", _outside(columns.labels, 0, labels), f"a label that is no class index{_among(labels)}"),
        (
            "classes",
            _outside(answers, _BACKGROUND, classes).any(axis=1),
            f"a class that is no class index{_among(classes)}",
        ),
        ("classes", (ordered[:, 1:] == ordered[:, :-1]).any(axis=1), "the same class twice"),
        ("scores", ~np.isfinite(scores).all(axis=1), "a score that is not finite"),
    ]
    if columns.ids is not None:
        faults.append(("ids", _repeated(columns.ids), "an id that another row has too"))
    for name, bad, what in faults:
        if bad.any():
            row = int(np.argmax(bad))
            raise UsageError(
                "array-row", f"{path}: array {name!r}, row {row} has {what}; correct that row and try again."
            )


def _outside(values: NDArray[Any], least: int, number: int | None) -> NDArray[np.bool_]:
    """Return where a value is no class index, of ``number`` classes where that is known."""
    return np.asarray((values < least) | (values > (_LARGEST_CLASS if number is None else number - 1)))


def _among(number: int | None) -> str:
    return "" if number is None else f" of {number:,} classes"


def _repeated(ids: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where an id stands that an earlier row has."""
    _, first = np.unique(ids.astype(str), return_index=True)
    repeated = np.ones(len(ids), dtype=bool)
    repeated[first] = False
    return repeated
