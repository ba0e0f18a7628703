"""Whether a model file may be loaded, by its format."""

from __future__ import annotations

import stat
import zipfile
from typing import TYPE_CHECKING

from workers.engine.protocol import SubjectError, UnsafeError
from workers.engine.safety import scanner
from workers.engine.safety.formats import HEAD, real_format
from workers.engine.safety.safetensors_files import check_safetensors

if TYPE_CHECKING:
    from pathlib import Path

_REASONS = {
    "torchscript": "a TorchScript archive carries a program",
    "torch": "a PyTorch archive is a pickle, which can run code when it is loaded",
    "torch-package": "a package of torch carries modules of Python",
    "exported-program": "an exported program holds expressions that torch.export evaluates as Python when it is loaded",
    "pickle": "a pickle can run code when it is loaded",
    "tar": "an archive is not unpacked here, and in the legacy format of PyTorch it is a pickle, which can run code",
    "keras-code": "this Keras archive holds a Lambda or custom layer, which runs code",
    "hdf5-model": "this HDF5 file holds a whole Keras model, whose configuration can run code; save the weights alone",
    "numpy-pickle": "this NumPy file holds Python objects, which are a pickle",
    "saved-model": "a SavedModel of TensorFlow is a program, whose operations read and write files",
    "program": "it is a program and no model",
    "compressed": "what a compressed file holds is not known before it is unpacked, and it may be a bomb",
    "archive": "an archive is not unpacked here",
}
"""Formats that can execute, or whose content cannot be told without unpacking them, and why."""

_PICKLES = frozenset({"torch", "torchscript", "torch-package", "pickle", "tar", "numpy-pickle"})
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_HDF5_PLACES = (512, 1024, 2048)
"""Where HDF5 looks for its beginning behind other content."""


def sniff(path: Path, *, allow: frozenset[str] = frozenset()) -> str:
    """Return a model file's real format by its content, never by its extension.

    Formats: ``onnx``, ``safetensors``, ``hdf5``, ``keras``, ``npz``, ``npy``, and those that can execute: ``torch``,
    ``torchscript``, ``torch-package``, ``exported-program``, ``tar``, ``pickle``, ``keras-code``, ``hdf5-model``,
    ``numpy-pickle``, ``saved-model``, ``program``, ``compressed``, ``archive``.

    Args:
        path: The file.
        allow: Formats that can execute but that the caller opens with a loader that builds tensors only.

    Must run in the confined process: reading is loading too.

    Raises:
        SubjectError: The file is missing, empty, unreadable or of no known format.
        UnsafeError: The format can execute and is not in ``allow``, the file lies about what it holds, or it is two
            formats at once.
    """
    head, size = _beginning(path)
    found = real_format(path, head, size)
    if found is None:
        raise SubjectError(
            "unknown-format",
            f"{path} is no ONNX, safetensors, HDF5, Keras, NumPy or PyTorch file: it begins with {head[:8].hex()}.",
        )
    if second := _second_format(path, head, found):
        raise UnsafeError("polyglot", f"{path} is not loaded: it is {found} from the front and {second}.")
    if found == "safetensors":
        check_safetensors(path, head, size)
    if found in _REASONS and found not in allow:
        said = scanner.scan(path) if found in _PICKLES else None
        raise UnsafeError(
            "can-execute",
            f"{path} is not loaded: {_REASONS[found]}. Convert it to safetensors or ONNX.",
            {"format": found} | ({"scan": said} if said else {}),
        )
    return found


def _beginning(path: Path) -> tuple[bytes, int]:
    """Return a file's first bytes and its size. A pipe or a device would keep the reader waiting for ever."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise _folder(path)
        if not stat.S_ISREG(status.st_mode):
            raise SubjectError("no-file", f"{path} is a device, pipe or socket, and no file; name a file.")
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise SubjectError("unreadable", f"{path} cannot be read: {error.strerror}. Check the path.") from error
    if not head:
        raise SubjectError("empty-file", f"{path} is empty; fetch or export it again.")
    return head, status.st_size


def _folder(path: Path) -> SubjectError | UnsafeError:
    if (path / "saved_model.pb").exists() or (path / "saved_model.pbtxt").exists():
        return UnsafeError("can-execute", f"{path} is not loaded: {_REASONS['saved-model']}. Convert it to ONNX.")
    return SubjectError("no-file", f"{path} is a folder; name a file in it.")


def _second_format(path: Path, head: bytes, found: str) -> str | None:
    """Say what else another reader would find in the file."""
    if not head.startswith(b"PK") and found != "tar" and zipfile.is_zipfile(path):
        return "a zip from the back"
    if any(head[place : place + len(_HDF5_MAGIC)] == _HDF5_MAGIC for place in _HDF5_PLACES):
        return "HDF5 behind it"
    return None
