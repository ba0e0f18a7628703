"""Zip archives that lie: about where their members belong, how large they are, or where the archive begins."""

from __future__ import annotations

import stat
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from workers.engine.protocol import UnsafeError

if TYPE_CHECKING:
    import zipfile
    from pathlib import Path

_RATIO = 100
_FREE = 64 * 2**20
"""What an archive may unpack to, whatever its own size; tensors that are mostly zeros pack well."""
_MEMBERS = 100_000
_ENCRYPTED = 0x1


def check(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise UnsafeError for an archive that no honest tool writes; nothing is unpacked."""
    members = archive.infolist()
    size = path.stat().st_size
    if members and min(member.header_offset for member in members) != 0:
        raise _unsafe("polyglot", path, "its archive begins behind other content, which another reader would load")
    unpacked = sum(member.file_size for member in members)
    if unpacked > _RATIO * size + _FREE or len(members) > _MEMBERS:
        raise _unsafe("bomb", path, f"its {size} bytes unpack to {unpacked} bytes in {len(members)} members")
    if sum(member.compress_size for member in members) > size:
        raise _unsafe("bomb", path, "its members overlap")
    if len({member.filename for member in members}) != len(members):
        raise _unsafe("ambiguous", path, "it has two members of one name, of which every reader takes another")
    for member in members:
        name = member.filename
        windows = PureWindowsPath(name)
        if PurePosixPath(name).is_absolute() or windows.anchor or ".." in windows.parts:
            raise _unsafe("path-escape", path, f"its member {name[:200]!r} belongs outside of the archive")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise _unsafe("path-escape", path, f"its member {name[:200]!r} is a link")
        if member.flag_bits & _ENCRYPTED:
            raise _unsafe("encrypted", path, f"its member {name[:200]!r} is encrypted")


def _unsafe(code: str, path: Path, why: str) -> UnsafeError:
    return UnsafeError(code, f"{path} is not loaded: {why}. Save the model again.")
