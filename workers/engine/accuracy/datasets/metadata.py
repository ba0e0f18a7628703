"""Hugging Face's folder of pictures whose labels stand beside them, in ``metadata.csv`` or ``metadata.jsonl``."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.engine.accuracy import labels
from workers.engine.accuracy.datasets import places
from workers.engine.accuracy.datasets.base import FileDataset, Spec, checked_labels
from workers.engine.accuracy.datasets.folders import is_picture
from workers.engine.accuracy.datasets.tables import LABEL
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_FILES = ("metadata.csv", "metadata.jsonl")
_FILE_NAME = "file_name"
_MOST_BYTES = 1024**3


class MetadataDataset(FileDataset):
    """Pictures in the order of the rows, each with ``file_name`` and its label: a class index, or a name.

    Names need a label space whose names are known. Each picture of the folder must have one row.
    """

    def __init__(self, spec: Spec, folder: Path) -> None:
        name = next((name for name in _FILES if (folder / name).exists()), None)
        if name is None:
            raise UsageError(
                "folder-layout",
                f"{folder} is no folder of Hugging Face's datasets: it has no state.json, no "
                f"data/SPLIT-00000-of-00001.parquet and no {' or '.join(_FILES)}; for class folders use the format "
                "folder.",
            )
        places.check_inside(spec.path, folder)
        path = places.file(folder, name, "the labels of the pictures")
        column = spec.options.get("label_column", LABEL)
        rows = list(_rows(path, column))
        files = _files(folder, path, rows)
        found, count = checked_labels(
            _class_indices(spec, path, column, rows),
            spec.classes or labels.size(spec.label_space),
            lambda row: f"{path}, line {rows[row][0]}: {column!r}",
        )
        super().__init__(spec, spec.label_space, count, list(zip(files, found.tolist(), strict=True)))


def _rows(path: Path, column: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, file name and label of each row."""
    places.check_size(path, _MOST_BYTES)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for line, row in _csv(file) if path.suffix == ".csv" else _json_lines(file):
                for field in (_FILE_NAME, column):
                    if not isinstance(row, dict) or row.get(field) in {None, ""}:
                        raise UsageError("metadata-row", f"{path}, line {line} has no {field!r}; add it.")
                yield line, str(row[_FILE_NAME]), str(row[column])
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError("metadata-broken", f"{path} cannot be read ({error}); write it anew.") from error


def _csv(file: Any) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(file)
    for row in reader:
        yield reader.line_num, row


def _json_lines(file: Any) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, json.loads(line)


def _files(folder: Path, path: Path, rows: list[tuple[int, str, str]]) -> list[Path]:
    """Return the picture of each row; refuses missing, doubled and left-over ones."""
    files: list[Path] = []
    seen: set[Path] = set()
    for line, name, _ in rows:
        file = places.file(folder, name, f"named in {path.name}, line {line}")
        target = file.resolve()
        if target in seen:
            raise UsageError("item-twice", f"{path}, line {line}: {name} is there twice; leave one row out.")
        seen.add(target)
        files.append(file)
    left = next((item for item in _pictures(folder, folder) if item.resolve() not in seen), None)
    if left is not None:
        raise UsageError("items-differ", f"{left} has no row in {path}; add one, or remove the picture.")
    return files


def _pictures(root: Path, folder: Path) -> Iterator[Path]:
    for entry in places.entries(root, folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _pictures(root, folder / entry.name)
        elif is_picture(folder, entry):
            yield folder / entry.name


def _class_indices(spec: Spec, path: Path, column: str, rows: list[tuple[int, str, str]]) -> NDArray[np.int64]:
    """Return the labels as class indices."""
    if all(label.removeprefix("-").isdecimal() and label.isascii() for _, _, label in rows):
        # Twenty digits may not fit; no class has that many.
        return np.array([max(-(2**31), min(int(label), 2**31)) for _, _, label in rows], dtype=np.int64)
    if not labels.names(spec.label_space):
        line, _, label = next(row for row in rows if not row[2].isdecimal())
        raise UsageError(
            "label-space-missing",
            f"{path}, line {line}: {column!r} is {label[:40]!r}, and the order of the classes is known for no label "
            f"space {spec.label_space!r}; state one whose names are known, or write class indices.",
        )
    names = [label for _, _, label in rows]
    what = f"{path}: column {column!r}, label "
    return np.array(labels.by_name(names, spec.label_space or "", what=what, repeated=True), dtype=np.int64)
