"""``parquet``: a file with a column of encoded pictures and one of labels, or a folder of such files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyarrow import parquet

from workers.engine.accuracy.datasets import places
from workers.engine.accuracy.datasets.tables import Part, TableDataset
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.engine.accuracy.datasets.base import Spec

_BATCH_ROWS = 64
_BATCH_BYTES = 128 * 1024**2
_BOMB_BYTES = 64 * 1024**2
_BOMB_RATIO = 100
_LABEL_ROWS = 65_536
_BUFFER_BYTES = 1024**2


class ParquetPart(Part):
    """A Parquet file, read page by page within one row group after the other."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with self.reading(), self._open() as file:
            self._schema = file.schema_arrow
            self._metadata = file.metadata

    def schema(self) -> Any:
        """Return the Arrow schema."""
        return self._schema

    def _open(self) -> Any:
        # Without pre_buffer and with a buffer, a column is read by pages and not as a whole.
        return parquet.ParquetFile(self.path, buffer_size=_BUFFER_BYTES, pre_buffer=False)

    def batches(self, column: str, start: int = 0) -> Iterator[Any]:
        """Yield record batches that hold this column, from row ``start`` on; row groups before it are not read."""
        with self.reading(), self._open() as file:
            nested = self._schema.field(column).type.num_fields > 0
            leaf = f"{column}.bytes" if nested else column
            for group in range(self._metadata.num_row_groups):
                if start >= self._metadata.row_group(group).num_rows:
                    start -= self._metadata.row_group(group).num_rows
                    continue
                rows = self._rows(group, leaf)
                for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=[leaf], use_threads=False):
                    skipped = min(start, len(batch))
                    start -= skipped
                    if skipped < len(batch):
                        yield batch.slice(skipped)

    def _rows(self, group: int, leaf: str) -> int:
        """Return how many rows may be unpacked at once; refuses what no column of pictures packs to."""
        about = self._metadata.row_group(group)
        chunk = next(
            chunk
            for chunk in (about.column(place) for place in range(about.num_columns))
            if chunk.path_in_schema == leaf
        )
        packed, unpacked = chunk.total_compressed_size, chunk.total_uncompressed_size
        if unpacked > _BOMB_BYTES and unpacked > _BOMB_RATIO * max(packed, 1):
            raise UsageError(
                "table-bomb",
                f"{self.path}: column {leaf!r} of row group {group} unpacks from {packed:,} to {unpacked:,} bytes; "
                "pictures do not, so it is not read.",
            )
        if chunk.physical_type != "BYTE_ARRAY":
            return _LABEL_ROWS
        # A value of the dictionary costs its length in each row that names it, and may be as long as the chunk.
        return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(unpacked, 1))) if chunk.has_dictionary_page else _BATCH_ROWS


def open_parquet(spec: Spec) -> TableDataset:
    """Open one Parquet file, or all those of a folder in the order of their names."""
    if not spec.path.is_dir():
        return TableDataset(spec, [ParquetPart(places.file(spec.path.parent, spec.path.name, "a Parquet file"))])
    names = [entry.name for entry in places.entries(spec.path, spec.path) if entry.name.endswith(".parquet")]
    if not names:
        raise UsageError("dataset-empty", f"{spec.path} has no .parquet files; give the folder that holds them.")
    return TableDataset(spec, [ParquetPart(places.file(spec.path, name, "a Parquet file")) for name in names])
