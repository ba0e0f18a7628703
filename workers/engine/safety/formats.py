"""The real format of a model file, read from its content."""

from __future__ import annotations

import io
import json
import math
import pickletools
import re
import struct
import zipfile
from typing import TYPE_CHECKING, Any

from workers.engine.protocol import SubjectError, UnsafeError
from workers.engine.safety import archives

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

HEAD = 4096
"""Bytes from the front that ``real_format`` needs."""
_TAR_MAGIC_AT = 257
_MAX_JSON = 32 * 2**20
"""Bytes of a JSON header or configuration; those of the largest published models have a few MiB."""
_VARINT_BYTES = 2
_MAX_IR_VERSION = 999
_MODEL_FIELDS = {2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}
_HIGHEST_PROTOCOL = 5

_MAGIC = {
    b"\x7fELF": "program",
    b"MZ": "program",
    b"\xcf\xfa\xed\xfe": "program",
    b"#!": "program",
    b"\x1f\x8b": "compressed",
    b"BZh": "compressed",
    b"\xfd7zXZ\0": "compressed",
    b"\x28\xb5\x2f\xfd": "compressed",
    b"\x04\x22\x4d\x18": "compressed",
    b"\x78\x01": "compressed",
    b"\x78\x5e": "compressed",
    b"\x78\x9c": "compressed",
    b"\x78\xda": "compressed",
    b"7z\xbc\xaf\x27\x1c": "archive",
    b"Rar!": "archive",
}
_PYTHON_BYTECODE = b"\r\n"
"""At 2: the end of the magic number of compiled Python."""
_UNSUPPORTED = {b"GGUF": (0, "GGUF"), b"TFL3": (4, "TensorFlow Lite"), b"ORTM": (4, "ORT format")}
_GLOBAL = re.compile(r"[\w.]+ [\w.]+")


def real_format(path: Path, head: bytes, size: int) -> str | None:
    """Tell the format from a file's first ``HEAD`` bytes and its size, looking deeper into containers.

    Returns None for no known format. Raises SubjectError for a container that cannot be opened and for formats that are
    known but not supported, UnsafeError for containers that lie about what they hold.
    """
    containers = {b"PK": _zip_format, b"\x89HDF\r\n\x1a\n": _hdf5_format}
    for magic, look_inside in containers.items():
        if head.startswith(magic):
            return look_inside(path)
    for magic, (at, name) in _UNSUPPORTED.items():
        if head[at : at + len(magic)] == magic:
            raise SubjectError("unsupported-format", f"{path} is {name}, which cannot be audited; export it to ONNX.")
    if head.startswith(b"\x93NUMPY"):
        with path.open("rb") as file:
            return "numpy-pickle" if _array(str(path), file, size) else "npy"
    if head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        return "tar"
    if safetensors_header(path, head, size) is not None:
        return "safetensors"
    return _headless(path, head)


def _headless(path: Path, head: bytes) -> str | None:
    """Tell formats without a header of their own, and those that only have to be refused."""
    if head[:1] == b"\x80" and head[1:2] <= bytes([_HIGHEST_PROTOCOL]):
        return "pickle"
    if _is_saved_model(head):
        return "saved-model"
    if _is_onnx(head):
        return "onnx"
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    if head[2:4] == _PYTHON_BYTECODE:
        return "program"
    # Pickle protocols 0 and 1 have no header; GLOBAL or MARK lead, and STOP ends them.
    old = head[:1] in b"(c]}" and _last_byte(path) == b"."
    return "pickle" if old or _reads_as_pickle(head) else None


def _reads_as_pickle(head: bytes) -> bool:
    """Say whether the bytes are instructions of a pickle that imports something, or one that is complete."""
    imports = False
    try:
        for operation, argument, _ in pickletools.genops(io.BytesIO(head)):
            if operation.name == "STOP":
                return True
            imports |= operation.name in {"GLOBAL", "INST"} and bool(_GLOBAL.fullmatch(str(argument)))
    except (ValueError, UnicodeDecodeError, struct.error, IndexError, OverflowError):
        return imports
    return imports


def _last_byte(path: Path) -> bytes:
    """Return a file's last byte."""
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1)


def safetensors_header(path: Path, head: bytes, size: int) -> dict[str, Any] | None:
    """Return the JSON that 8 bytes of length announce; None where there is none."""
    length = int.from_bytes(head[:8], "little")
    if not len(b"{}") <= length <= min(_MAX_JSON, size - 8) or head[8:9] != b"{":
        return None
    with path.open("rb") as file:
        file.seek(8)
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            return None
    return header if isinstance(header, dict) else None


def _is_onnx(head: bytes) -> bool:
    """Say whether the first fields read as a serialised ModelProto.

    Field 1 is the IR version, a varint of one byte so far; two are read. Fields may come in any order, but all known
    writers put them ascending, so that the version leads. A file cut after it is ONNX still, and refused as truncated.
    """
    if not head.startswith(b"\x08") or len(head) <= 1:
        return False
    width = 1 if head[1] < 0x80 else _VARINT_BYTES  # noqa: PLR2004  # the continuation bit
    version = head[1] & 0x7F | (head[width] << 7 if width == _VARINT_BYTES and len(head) > width else 0)
    rest = head[1 + width :]
    return 0 < version <= _MAX_IR_VERSION and (not rest or rest[0] >> 3 in _MODEL_FIELDS)


def _is_saved_model(head: bytes) -> bool:
    """Say whether it is TensorFlow's SavedModel: schema version 1, then a graph (whose first field is a message).

    In ONNX the second field is the exporter's name, a text, and no version 1 was ever published.
    """
    return head.startswith(b"\x08\x01\x12") and b"\n" in head[4:9]


def _zip_format(path: Path) -> str | None:
    """Tell the format of a zip archive by its members."""
    try:
        with zipfile.ZipFile(path) as archive:
            archives.check(path, archive)
            return _of_members(path, archive)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        raise SubjectError(
            "truncated", f"{path} begins as a zip archive but cannot be read ({error}); fetch or export it again."
        ) from error


def _of_members(path: Path, archive: zipfile.ZipFile) -> str:
    names = archive.namelist()
    parts = {name.split("/", 1)[-1] for name in names}
    marks = {
        "torchscript": "constants.pkl" in parts or any(part.startswith("code/") for part in parts),
        "exported-program": bool(parts & {"archive_format", "serialized_exported_program.json"}),
        "torch-package": ".data/extern_modules" in parts,
        "torch": "data.pkl" in parts,
    }
    if found := next((name for name, seen in marks.items() if seen), None):
        return found
    if "config.json" in names and any(name.endswith(".weights.h5") for name in names):
        return _keras_format(archive)
    if names and all(name.endswith(".npy") for name in names):
        return _npz_format(path, archive)
    return "pickle" if any(name.endswith((".pkl", ".pickle")) for name in names) else "archive"


def _npz_format(path: Path, archive: zipfile.ZipFile) -> str:
    """Tell a safe ``.npz`` from one with object arrays."""
    for info in archive.infolist():
        with archive.open(info) as member:
            if _array(f"{path}, {info.filename}", member, info.file_size):
                return "numpy-pickle"
    return "npz"


def _array(where: str, file: BinaryIO | Any, size: int) -> bool:
    """Say whether a NumPy array holds Python objects, whose data is a pickle; raises UnsafeError when its header lies.

    A header that cannot be read counts as one of objects: it is refused, as is everything that cannot be told.
    """
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        if dtype.hasobject:
            return True
        declared, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    except (ValueError, TypeError, SyntaxError, OverflowError, RecursionError):
        return True
    if declared != there:
        raise UnsafeError(
            "false-sizes",
            f"{where} is not loaded: its header declares {declared} bytes, and {there} are there; save it again.",
        )
    return False


def _keras_format(archive: zipfile.ZipFile) -> str:
    """Tell a plain Keras archive from one whose configuration names code outside Keras' own layers."""
    with archive.open("config.json") as member:
        text = member.read(_MAX_JSON)
    try:
        nodes = list(_nodes(json.loads(text)))
    except (ValueError, RecursionError):
        return "keras-code"
    return "keras-code" if any(map(_is_code, nodes)) else "keras"


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a JSON value. No recursion: nesting depth is the file's word."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting.extend(found)
        if isinstance(found, dict):
            yield found
            waiting.extend(found.values())


def _is_code(node: dict[str, Any]) -> bool:
    """Say whether an object of a Keras configuration stands for code that is not Keras' own."""
    name = node.get("class_name")
    module = node.get("module") if name is not None else None
    if module is not None and str(module).split(".")[0] not in {"keras", "builtins"}:
        return True
    if name in {"Lambda", "__lambda__", "function"}:
        return True
    # It repeats the class name for Keras' own classes and names the package for others.
    return bool(node.get("registered_name")) and node.get("registered_name") != name


def _hdf5_format(path: Path) -> str:
    """Tell an HDF5 file of weights from one that holds a whole Keras model."""
    from workers.engine.safety.hdf5_files import hdf5_format

    return hdf5_format(path)
