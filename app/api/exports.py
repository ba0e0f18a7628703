"""Lists as CSV or Parquet, streamed: ``?format=``, or the ``Accept`` header."""

from __future__ import annotations

import csv
import io
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Header
from fastapi.responses import StreamingResponse
from pydantic import Field

from app.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy.orm import Session

    from app.db.session import Database
    from app.services.exports import Row

CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
_TYPES = {"csv": CSV, "parquet": PARQUET}
_AT_ONCE = 5000
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection)."""

Format = Annotated[
    Literal["json", "csv", "parquet"] | None,
    Field(
        description="csv and parquet give every row from `cursor` on, whatever `limit` is. Default: as `Accept` says."
    ),
]
Accept = Annotated[str | None, Header(include_in_schema=False)]

DOCUMENTED: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            CSV: {"schema": {"type": "string"}, "example": "dimension,metric,effect\r\naccuracy,top1,-0.002\r\n"},
            PARQUET: {"schema": {"type": "string", "format": "binary"}, "example": "PAR1..."},
        }
    }
}


class NoParquetError(ServiceError):
    """This installation cannot write Parquet."""

    status = 406
    slug = "no-parquet"


def chosen(asked: str | None, accept: str | None) -> str:
    """Return the format to answer in: what the query says, else the first that the caller accepts, else JSON."""
    if asked is not None:
        return asked
    accepted = [each.split(";")[0].strip() for each in (accept or "").split(",")]
    return next((name for each in accepted for name, media in _TYPES.items() if media == each), "json")


def stream(
    database: Database,
    kind: str,
    columns: Mapping[str, type],
    rows: Callable[[Session], Iterator[Row]],
    *,
    name: str,
) -> StreamingResponse:
    """Answer with rows as they are read, in a transaction of their own. The first are read before the answer begins.

    Raises NoParquetError where pyarrow is not installed, and whatever reading the first rows raises.
    """
    writing = _csv if kind == "csv" else _parquet()

    def parts() -> Iterator[bytes]:
        with database.read() as session:
            yield from writing(columns, rows(session))

    made = parts()
    first = next(made, b"")
    headers = {"Content-Disposition": f'attachment; filename="{name}.{kind}"'}
    return StreamingResponse(chain([first], made), media_type=_TYPES[kind], headers=headers)


def _csv(columns: Mapping[str, type], rows: Iterator[Row]) -> Iterator[bytes]:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), extrasaction="ignore")
    writer.writeheader()
    while True:
        some = list(islice(rows, _AT_ONCE))
        writer.writerows({name: _safe(row.get(name)) for name in columns} for row in some)
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
        if len(some) < _AT_ONCE:
            return


def _safe(value: object) -> object:
    """Return a cell that no spreadsheet runs: names come from models that strangers published."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _parquet() -> Callable[[Mapping[str, type], Iterator[Row]], Iterator[bytes]]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - only the extra `data` has it
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise NoParquetError("This server has no pyarrow; install zooaudit[data], or ask for format=csv.") from error
    kinds = {str: pa.string(), float: pa.float64(), int: pa.int64()}

    def write(columns: Mapping[str, type], rows: Iterator[Row]) -> Iterator[bytes]:
        schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
        sink = _Sink()
        with parquet.ParquetWriter(sink, schema) as writer:
            while some := list(islice(rows, _AT_ONCE)):
                writer.write_table(pa.Table.from_pylist(some, schema))
                yield sink.take()
        yield sink.take()

    return write


class _Sink(io.RawIOBase):
    """A file that hands on what was written; its place counts all that ever was."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def tell(self) -> int:
        """Return the place in the whole file."""
        return self._at

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - whatever has bytes
        """Keep what is written."""
        self._parts.append(bytes(data))
        self._at += len(self._parts[-1])
        return len(self._parts[-1])

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken
