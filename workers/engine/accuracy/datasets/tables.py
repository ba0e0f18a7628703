"""Pictures in tables: a column of encoded pictures and one of labels, read batch by batch from one or several files."""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from workers.engine.accuracy import labels
from workers.engine.accuracy.datasets import pictures
from workers.engine.accuracy.datasets.base import MOST_ITEMS, Dataset, Picture, Spec, checked_labels
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

IMAGE, LABEL = "image", "label"


class Part(ABC):
    """One file of a table. Every failure is a UsageError that names the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def schema(self) -> Any:
        """Return the Arrow schema."""

    @abstractmethod
    def batches(self, column: str, start: int = 0) -> Iterator[Any]:
        """Yield record batches that hold this column, from row ``start`` on.

        What is in memory does not grow with the file.
        """

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Turn what pyarrow raises on damaged files into a UsageError."""
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise UsageError(
                "table-broken", f"{self.path} cannot be read ({error}); it may be truncated: write or copy it anew."
            ) from error


class TableDataset(Dataset):
    """The rows of several tables, one after the other.

    The column of pictures (option ``image_column``, else ``image``) holds their encoded bytes, plainly or as Hugging
    Face's struct of ``bytes`` and ``path``; that of labels (``label_column``, else ``label``) class indices, or names
    where the label space knows them.
    """

    def __init__(self, spec: Spec, parts: Sequence[Part], class_names: Sequence[str] | None = None) -> None:
        self._parts = parts
        self._image = spec.options.get("image_column", IMAGE)
        label = spec.options.get("label_column", LABEL)
        for part in parts:
            _check_columns(part, self._image, label)
        class_names = class_names or names_of_features(_features(parts[0].schema()), label)
        space = spec.label_space or (labels.space_of(class_names) if class_names else None)
        found = [_labels(part, label, space) for part in parts]
        self._starts = np.cumsum([0, *(len(values) for values in found)])
        values = np.concatenate(found)
        size = spec.classes or labels.size(space) or (len(class_names) if class_names else None)
        if class_names and size != len(class_names):
            raise UsageError(
                "label-space-size",
                f"{parts[0].path}: column {label!r} names {len(class_names)} classes, but label space {space} has "
                f"{size}; correct the label space.",
            )
        self._labels, count = checked_labels(
            values, size, lambda row: f"{self._place(row)[0].path}: column {label!r}, row {self._place(row)[1]}"
        )
        super().__init__(spec.name, len(values), space, count, pictures.ENCODED)

    def _place(self, index: int) -> tuple[Part, int]:
        """Return the file that holds an item, and its row there."""
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._parts[part], index - int(self._starts[part])

    def _where(self, index: int) -> str:
        part, row = self._place(index)
        return f"{part.path}: column {self._image!r}, row {row}"

    def raw(self, start: int = 0) -> Iterator[tuple[bytes, int]]:
        """Yield the encoded picture and the label of each row from ``start`` on."""
        index = start
        for number, part in enumerate(self._parts):
            first, end = (int(place) for place in self._starts[number : number + 2])
            if end <= start:
                continue
            for value in _pictures(part, self._image, max(0, start - first)):
                if index == end:
                    raise _changed(part)
                if value is None:
                    raise UsageError(
                        "picture-missing",
                        f"{self._where(index)} holds no bytes; write the pictures themselves into the file "
                        "(Hugging Face: embed_external_files), or leave the row out.",
                    )
                pictures.check_size(value.size, self._where(index))
                yield value.to_pybytes(), int(self._labels[index])
                index += 1
            if index != end:
                raise _changed(part)

    def decode(self, index: int, raw: bytes) -> Picture:
        """Decode one row's picture."""
        return pictures.decode(raw, self._where(index))


def _pictures(part: Part, image: str, start: int) -> Iterator[Any]:
    """Yield the buffer of each row's encoded picture, None where there is none."""
    for batch in part.batches(image, start):
        column = batch.column(image)
        values = column.field("bytes") if pa.types.is_struct(column.type) else column
        for row in range(len(values)):
            value = values[row]
            yield value.as_buffer() if column[row].is_valid and value.is_valid else None


def _changed(part: Part) -> UsageError:
    return UsageError("dataset-changed", f"{part.path} has another number of rows than a moment ago; restore it.")


def _check_columns(part: Part, image: str, label: str) -> None:
    schema = part.schema()
    for name, option in ((image, "image_column"), (label, "label_column")):
        if schema.names.count(name) != 1:
            found = ", ".join(schema.names) or "none"
            raise UsageError(
                "column-missing",
                f"{part.path} has {schema.names.count(name)} columns {name!r} (found: {found}); name the right one as "
                f"{option}.",
            )
    kind = schema.field(image).type
    inner = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    if not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner)):
        raise UsageError(
            "column-type",
            f"{part.path}: column {image!r} is {kind}; it must hold encoded pictures as binary, or as a struct of "
            "bytes and path.",
        )
    kind = schema.field(label).type
    if not (pa.types.is_integer(kind) or _is_text(kind)):
        raise UsageError(
            "column-type", f"{part.path}: column {label!r} is {kind}; it must hold class indices, or class names."
        )


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _labels(part: Part, column: str, space: str | None) -> NDArray[np.int64]:
    """Return the labels of a file, names already as class indices."""
    if _is_text(part.schema().field(column).type) and not labels.names(space):
        raise UsageError(
            "label-space-missing",
            f"{part.path}: column {column!r} holds names, and the order of the classes is known for no label space "
            f"{space!r}; state one whose names are known, or write class indices.",
        )
    found: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    rows = 0
    for batch in part.batches(column):
        values = batch.column(column)
        if values.null_count:
            row = rows + int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
            raise UsageError(
                "label-missing", f"{part.path}: column {column!r}, row {row} is null; fill it or leave the row out."
            )
        rows += len(values)
        if rows > MOST_ITEMS:
            raise UsageError("table-size", f"{part.path} has more than {MOST_ITEMS:,} rows; split the data set.")
        if _is_text(values.type):
            what = f"{part.path}: column {column!r}, label "
            found.append(np.array(labels.by_name(values.to_pylist(), space or "", what=what, repeated=True), np.int64))
        else:
            found.append(values.to_numpy(zero_copy_only=False).astype(np.int64))
    return np.concatenate(found)


def _features(schema: Any) -> dict[str, Any]:
    """Return the features that Hugging Face's datasets notes in a schema; none where it did not write it."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return dict(noted.get("info", {}).get("features", {}))
    except (ValueError, TypeError, AttributeError):
        return {}


def names_of_features(features: dict[str, Any], label: str) -> list[str] | None:
    """Return the class names of Hugging Face's feature ``ClassLabel``."""
    feature = features.get(label)
    found = feature.get("names") if isinstance(feature, dict) else None
    return [str(name) for name in found] if isinstance(found, list) and found else None
