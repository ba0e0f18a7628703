"""``huggingface``: folders that Hugging Face's ``datasets`` writes or loads, read without that package.

Three layouts: Parquet shards ``SPLIT-00000-of-00002.parquet``, in the folder or in its ``data``; what ``save_to_disk``
leaves (``state.json`` and Arrow streams, or one such folder a split); a folder of pictures with ``metadata.csv`` or
``metadata.jsonl``.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from workers.engine.accuracy.datasets import places
from workers.engine.accuracy.datasets.metadata import MetadataDataset
from workers.engine.accuracy.datasets.parquet import ParquetPart
from workers.engine.accuracy.datasets.tables import LABEL, Part, TableDataset, names_of_features
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from workers.engine.accuracy.datasets.base import Dataset, Spec

_SHARD = re.compile(r"(?P<split>[\w.-]+?)-(?P<number>\d{5})-of-(?P<all>\d{5})(-[0-9a-f]+)?\.parquet")
_MOST_BYTES = 16 * 1024**2
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def open_huggingface(spec: Spec) -> Dataset:
    """Open a folder of Hugging Face's ``datasets``; where it has several splits, the option ``split`` chooses."""
    root = places.folder(spec.path, "the data set as datasets wrote it")
    if (root / "dataset_dict.json").exists():
        splits = _json(places.file(root, "dataset_dict.json", "the list of splits")).get("splits") or ()
        return _saved(spec, root, root / _choose(spec, [str(name) for name in splits]))
    if (root / "state.json").exists():
        return _saved(spec, root, root)
    for folder in (root / "data", root):
        shards = _shards(root, folder)
        if shards:
            split = _choose(spec, shards)
            return TableDataset(spec, [ParquetPart(path) for path in _complete(folder, split, shards[split])])
    return MetadataDataset(spec, root / spec.options["split"] if "split" in spec.options else root)


def _choose(spec: Spec, splits: Collection[str]) -> str:
    asked = spec.options.get("split")
    if asked is None and len(splits) == 1:
        return next(iter(splits))
    if asked is None or asked not in splits:
        what = f"no split {asked!r}" if asked else f"{len(splits)} splits"
        raise UsageError("split", f"{spec.path} has {what}; name one as split: {', '.join(sorted(splits)) or 'none'}.")
    return asked


def _shards(root: Path, folder: Path) -> dict[str, list[re.Match[str]]]:
    """Return the Parquet shards of a folder by split."""
    found: dict[str, list[re.Match[str]]] = {}
    if folder.is_dir():
        places.check_inside(root, folder)
        for entry in places.entries(root, folder):
            match = _SHARD.fullmatch(entry.name)
            if match:
                found.setdefault(match["split"], []).append(match)
    return found


def _complete(folder: Path, split: str, shards: list[re.Match[str]]) -> list[Path]:
    """Return the shards in order; refuses missing and doubled ones."""
    numbers = [int(match["number"]) for match in shards]
    wanted = int(shards[0]["all"])
    missing = next((number for number in range(wanted) if number not in numbers), None)
    if missing is not None or len(numbers) != wanted or any(int(match["all"]) != wanted for match in shards):
        which = f"shard {missing:05d} of {wanted:05d} is missing" if missing is not None else "a shard is there twice"
        raise UsageError("shards", f"{folder}: of split {split!r} {which}; copy the data set anew.")
    return [places.file(folder, match[0], "a shard") for match in sorted(shards, key=lambda match: match["number"])]


class ArrowPart(Part):
    """An Arrow stream, read one record batch after the other."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with self.reading():
            with path.open("rb") as file:
                file.seek(-min(path.stat().st_size, len(_END_OF_STREAM)), 2)
                if file.read() != _END_OF_STREAM:
                    raise UsageError("table-broken", f"{path} has no end of an Arrow stream; copy it anew.")
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
                self._schema = stream.schema

    def schema(self) -> Any:
        """Return the Arrow schema."""
        return self._schema

    def batches(self, column: str, start: int = 0) -> Iterator[Any]:
        """Yield record batches that hold this column, from row ``start`` on."""
        # A map lets the pictures lie while labels are read; read through a map, all of them would count as memory.
        is_label = pa.types.is_integer(self._schema.field(column).type)
        opened = pa.memory_map(str(self.path)) if is_label else pa.OSFile(str(self.path))
        with self.reading(), opened as source, pa.ipc.open_stream(source) as stream:
            for batch in stream:
                skipped = min(start, len(batch))
                start -= skipped
                if skipped < len(batch):
                    chosen = batch.select([column])
                    chosen.validate(full=True)  # offsets that a stranger wrote may lead anywhere
                    yield chosen.slice(skipped)


def _saved(spec: Spec, root: Path, folder: Path) -> TableDataset:
    """Open what ``save_to_disk`` left."""
    places.check_inside(root, folder)
    state_path = places.file(folder, "state.json", "the list of the data set's files")
    state = _json(state_path)
    try:
        names = [str(item["filename"]) for item in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise UsageError("state", f"{state_path} lists no _data_files; save the data set anew.") from error
    if state.get("_indices_data_files"):
        raise UsageError(
            "state", f"{state_path} chooses rows by _indices_data_files; save the data set anew with flatten_indices()."
        )
    if not names or len(set(names)) < len(names):
        raise UsageError("state", f"{state_path} lists no file, or one twice; save the data set anew.")
    parts = [ArrowPart(places.file(folder, name, f"listed in {state_path.name}")) for name in names]
    about = folder / "dataset_info.json"
    features = _json(about).get("features") if about.exists() else None
    label = spec.options.get("label_column", LABEL)
    return TableDataset(spec, parts, names_of_features(features, label) if isinstance(features, dict) else None)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads("\n".join(places.lines(path, _MOST_BYTES)))
    except ValueError as error:
        raise UsageError("json-broken", f"{path} is no JSON ({error}); copy it anew.") from error
    if not isinstance(value, dict):
        raise UsageError("json-broken", f"{path} is no JSON object; copy it anew.")
    return value
