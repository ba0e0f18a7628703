"""Reads arrays out of ``.npz`` archives that strangers made; sizes and types are checked before unpacking."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

LIMIT_BYTES = 2 * 1024**3
"""Largest array that is unpacked as a whole: 50,000 items with their five best classes need 2 MB."""

_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)
"""What zipfile and numpy raise on damaged, encrypted or mislabelled archives."""


@dataclass(frozen=True)
class Header:
    """Shape and type of an array inside an archive, read without unpacking it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """Bytes of the unpacked array."""
        size = self.dtype.itemsize
        for side in self.shape:
            size *= side
        return size


class Archive:
    """An ``.npz`` file. Every failure is a UsageError that names the file and the array."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.headers: dict[str, Header] = {}
        if not path.is_file():
            raise UsageError("file-missing", f"{path} is not a file; give the path of an existing .npz file.")
        with self._open() as archive:
            members = archive.namelist()
            # A damaged length swallows the next entry as a comment; no writer of arrays leaves one.
            if archive.comment or any(info.comment for info in archive.infolist()):
                raise zipfile.BadZipFile("it carries a comment")
        for member in members:
            name = member.removesuffix(".npy")
            if name == member or members.count(member) > 1:
                raise UsageError(
                    "archive-member",
                    f"{path}: member {member!r} is no array, or is there twice; an .npz archive holds arrays only.",
                )
            with self.stream(name) as (_, header):
                self.headers[name] = header

    @contextlib.contextmanager
    def _open(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except UsageError:
            raise
        except _BROKEN as error:
            raise UsageError(
                "archive-broken",
                f"{self.path} cannot be read as an .npz archive ({error}); it may be truncated: write or copy it anew.",
            ) from error

    @contextlib.contextmanager
    def stream(self, name: str) -> Iterator[tuple[IO[bytes], Header]]:
        """Open an array at its first element; the elements follow in C order as they are read."""
        with self._open() as archive:
            info = archive.getinfo(f"{name}.npy")
            with archive.open(info) as member:
                header = self._header(name, member)
                if info.file_size - member.tell() != header.bytes:
                    raise UsageError(
                        "array-truncated",
                        f"{self.path}: array {name!r} has {info.file_size - member.tell()} bytes, but its header "
                        f"promises {header.bytes} for shape {header.shape}; write the file again.",
                    )
                yield member, header

    def _header(self, name: str, member: IO[bytes]) -> Header:
        version = npy.read_magic(member)
        if version == (1, 0):
            shape, fortran, dtype = npy.read_array_header_1_0(member)
        elif version == (2, 0):
            shape, fortran, dtype = npy.read_array_header_2_0(member)
        else:
            raise ValueError(f"array {name!r} has npy format {version}, not 1.0 or 2.0")
        if dtype.hasobject:
            raise UsageError(
                "array-objects",
                f"{self.path}: array {name!r} holds Python objects, which can execute code when read; "
                "save it as an array of numbers or text.",
            )
        if fortran and len(shape) > 1:
            raise UsageError(
                "array-order",
                f"{self.path}: array {name!r} is in Fortran order; save numpy.ascontiguousarray({name}) instead.",
            )
        return Header(tuple(shape), dtype)

    def require(self, *names: str) -> None:
        """Raise UsageError when one of the arrays is missing."""
        for name in names:
            if name not in self.headers:
                found = ", ".join(sorted(self.headers)) or "none"
                raise UsageError(
                    "array-missing", f"{self.path} has no array {name!r} (found: {found}); save it under that name."
                )

    def read(self, name: str) -> NDArray[Any]:
        """Return one array, unpacked as a whole; refuses one larger than ``LIMIT_BYTES``."""
        self.require(name)
        with self.stream(name) as (member, header):
            if header.bytes > LIMIT_BYTES:
                raise UsageError(
                    "array-size",
                    f"{self.path}: array {name!r} unpacks to {header.bytes} bytes, more than {LIMIT_BYTES}; split it.",
                )
            return np.frombuffer(member.read(), dtype=header.dtype).reshape(header.shape)

    def read_integers(self, name: str, ndim: int) -> NDArray[np.integer[Any]]:
        """Return an array of integers with ``ndim`` axes and at least one element."""
        array = self.read(name)
        if not np.issubdtype(array.dtype, np.integer) or array.ndim != ndim or array.size == 0:
            raise UsageError(
                "array-shape",
                f"{self.path}: array {name!r} is {array.dtype} {array.shape}; it must hold integers on {ndim} "
                f"{'axis' if ndim == 1 else 'axes'}, "
                "and at least one.",
            )
        return array
