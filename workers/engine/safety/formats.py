"""The real format of a model file, read from its content."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING

from workers.engine.protocol import SubjectError

if TYPE_CHECKING:
    from pathlib import Path

HEAD = 4096
"""Bytes from the front that ``real_format`` needs."""
_MAX_HEADER = 100_000_000
"""The safetensors format's own limit on its JSON header, in bytes."""
_TAR_MAGIC_AT = 257
_PICKLE_PROTOCOLS = {bytes([0x80, protocol]) for protocol in (2, 3, 4, 5)}
_VARINT_BYTES = 2
_MAX_IR_VERSION = 999
_MODEL_FIELDS = {2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}


def real_format(path: Path, head: bytes, size: int) -> str | None:
    """Tell the format from a file's first ``HEAD`` bytes and its size, looking deeper into containers.

    Returns None for no known format; raises SubjectError for a container that cannot be opened.
    """
    containers = {b"PK": _zip_format, b"\x89HDF\r\n\x1a\n": _hdf5_format}
    for magic, look_inside in containers.items():
        if head.startswith(magic):
            return look_inside(path)
    found = None
    if head.startswith(b"\x93NUMPY"):
        found = "numpy-pickle" if _has_objects(head) else "npy"
    elif head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        found = "torch-tar"
    elif _is_safetensors(path, head, size):
        found = "safetensors"
    elif head[:2] in _PICKLE_PROTOCOLS:
        found = "pickle"
    elif _is_onnx(head):
        found = "onnx"
    elif head[:1] in b"(c]}" and _last_byte(path) == b".":
        # Pickle protocols 0 and 1 have no header; they end in STOP, and GLOBAL or MARK lead.
        found = "pickle"
    return found


def _has_objects(descriptor: bytes) -> bool:
    """Say whether a NumPy header declares Python objects, whose data is a pickle."""
    return b"'|O'" in descriptor or b"('O" in descriptor


def _last_byte(path: Path) -> bytes:
    """Return a file's last byte."""
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1)


def _is_safetensors(path: Path, head: bytes, size: int) -> bool:
    """Say whether 8 bytes of length are followed by that much JSON."""
    length = int.from_bytes(head[:8], "little")
    if not len(b"{}") <= length <= min(_MAX_HEADER, size - 8) or head[8:9] != b"{":  # "{}"
        return False
    with path.open("rb") as file:
        file.seek(8)
        try:
            return isinstance(json.loads(file.read(length)), dict)
        except (ValueError, RecursionError):
            return False


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


def _zip_format(path: Path) -> str | None:
    """Tell the format of a zip archive by its members."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            parts = {name.split("/", 1)[-1] for name in names}
            if "constants.pkl" in parts or any(part.startswith("code/") for part in parts):
                return "torchscript"
            if "data.pkl" in parts:
                return "torch"
            if "config.json" in names and any(name.endswith(".weights.h5") for name in names):
                return _keras_format(archive)
            if names and all(name.endswith(".npy") for name in names):
                return _npz_format(archive, names)
            return "pickle" if any(name.endswith((".pkl", ".pickle")) for name in names) else None
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        raise SubjectError(
            "truncated", f"{path} begins as a zip archive but cannot be read ({error}); fetch or export it again."
        ) from error


def _npz_format(archive: zipfile.ZipFile, names: list[str]) -> str:
    """Tell a safe ``.npz`` from one with object arrays."""
    for name in names:
        with archive.open(name) as member:
            descriptor = member.read(256)
        if _has_objects(descriptor):
            return "numpy-pickle"
    return "npz"


def _keras_format(archive: zipfile.ZipFile) -> str:
    """Tell a plain Keras archive from one whose configuration names code outside Keras' own layers."""
    with archive.open("config.json") as member:
        text = member.read(_MAX_HEADER)
    try:
        nodes = [json.loads(text)]
    except (ValueError, RecursionError):
        return "keras-code"
    while nodes:
        node = nodes.pop()
        if isinstance(node, list):
            nodes.extend(node)
        if not isinstance(node, dict):
            continue
        nodes.extend(node.values())
        module = node.get("module") if "class_name" in node else None
        foreign = module is not None and str(module).split(".")[0] not in {"keras", "builtins"}
        if foreign or node.get("registered_name") or node.get("class_name") in {"Lambda", "__lambda__", "function"}:
            # registered_name repeats the class name for Keras' own classes and names the package for others.
            if not foreign and node.get("registered_name") == node.get("class_name") not in {"Lambda", "__lambda__"}:
                continue
            return "keras-code"
    return "keras"


def _hdf5_format(path: Path) -> str:
    """Tell an HDF5 file of weights from one that holds a whole Keras model."""
    import h5py  # type: ignore[import-untyped,unused-ignore]  # only environments with Keras have it

    try:
        with h5py.File(path) as file:
            return "hdf5-model" if "model_config" in file.attrs else "hdf5"
    except OSError as error:
        raise SubjectError(
            "truncated", f"{path} begins as HDF5 but cannot be read ({error}); fetch or export it again."
        ) from error
