"""Whether a model file may be loaded: its format, and for ONNX what is inside."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from workers.engine.protocol import SubjectError, UnsafeError
from workers.engine.safety.formats import HEAD, real_format

if TYPE_CHECKING:
    from collections.abc import Iterator

STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training"})
"""Operator sets of the ONNX standard; everything else is code of a runtime's own."""

_REASONS = {
    "torchscript": "a TorchScript archive carries a program",
    "torch": "a PyTorch archive is a pickle, which can run code when it is loaded",
    "pickle": "a pickle can run code when it is loaded",
    "torch-tar": "a legacy PyTorch archive is a pickle, which can run code when it is loaded",
    "keras-code": "this Keras archive holds a Lambda or custom layer, which runs code",
    "hdf5-model": "this HDF5 file holds a whole Keras model, whose configuration can run code; save the weights alone",
    "numpy-pickle": "this NumPy file holds Python objects, which are a pickle",
}
"""Formats that can execute, and why."""


def sniff(path: Path, *, allow: frozenset[str] = frozenset()) -> str:
    """Return a model file's real format by its content, never by its extension.

    Formats: ``onnx``, ``safetensors``, ``hdf5``, ``keras``, ``npz``, ``npy``, and those that can execute: ``torch``,
    ``torchscript``, ``torch-tar``, ``pickle``, ``keras-code``, ``hdf5-model``, ``numpy-pickle``.

    Args:
        path: The file.
        allow: Formats that can execute but that the caller opens with a loader that builds tensors only.

    Raises:
        SubjectError: The file is missing, empty, unreadable or of no known format.
        UnsafeError: The format can execute and is not in ``allow``, or the file is two formats at once.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise SubjectError("unreadable", f"{path} cannot be read: {error.strerror}. Check the path.") from error
    if not head:
        raise SubjectError("empty-file", f"{path} is empty; fetch or export it again.")
    found = real_format(path, head, size)
    if found is None:
        raise SubjectError(
            "unknown-format",
            f"{path} is no ONNX, safetensors, HDF5, Keras, NumPy or PyTorch file: it begins with {head[:8].hex()}.",
        )
    if not head.startswith(b"PK") and found != "torch-tar" and zipfile.is_zipfile(path):
        raise UnsafeError("polyglot", f"{path} is not loaded: it is {found} from the front and a zip from the back.")
    if found in _REASONS and found not in allow:
        raise UnsafeError("can-execute", f"{path} is not loaded: {_REASONS[found]}. Convert it to safetensors or ONNX.")
    return found


def check_onnx(path: Path) -> None:
    """Check an ONNX file without running it: readable, with a graph, standard operators, data inside its folder.

    Must run in the limited child process: reading is loading too.

    Raises:
        SubjectError: The file is missing, empty, truncated, of another format, has no nodes, or lacks its data file.
        UnsafeError: It uses operators outside the standard, or external data outside its folder.
    """
    found = sniff(path)
    if found != "onnx":
        raise SubjectError("not-onnx", f"{path} is {found}, not ONNX; export the model to ONNX first.")
    import onnx  # slow to import, and not needed to refuse

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises its own classes
        raise SubjectError(
            "truncated",
            f"{path} is no complete ONNX file ({type(error).__name__}); fetch or export it again.",
        ) from error
    if not model.graph.node:
        raise SubjectError("no-nodes", f"{path} has a graph without nodes; export the model again.")
    _check_operators(path, model)
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_external(path, tensor)


def _graphs(model: Any) -> Iterator[Any]:
    """Yield the main graph, every function body and every subgraph. No recursion: nesting depth is the file's word."""
    waiting = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)


def _check_operators(path: Path, model: Any) -> None:
    """Refuse nodes of a domain that neither the standard nor a function in the file defines."""
    functions = {(function.domain, function.name) for function in model.functions}
    for graph in _graphs(model):
        for index, node in enumerate(graph.node):
            if node.domain not in STANDARD_DOMAINS and (node.domain, node.op_type) not in functions:
                raise UnsafeError(
                    "custom-operator",
                    f"{path} is not loaded: custom operator {node.domain}.{node.op_type} at node {index} is code from "
                    "outside the ONNX standard; export the model with standard operators.",
                )


def _tensors(model: Any) -> Iterator[Any]:
    """Yield every tensor of the model."""
    for graph in _graphs(model):
        # Function bodies have no initializers.
        yield from getattr(graph, "initializer", [])
        for sparse in getattr(graph, "sparse_initializer", []):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def _check_external(path: Path, tensor: Any) -> None:
    """Refuse external data outside the model's folder, and data that is not there."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    outside = UnsafeError(
        "external-data",
        f"{path} is not loaded: its tensor {tensor.name!r} points to {location!r}, outside the model's folder; put the "
        "data beside the model.",
    )
    escapes = ".." in PurePosixPath(location).parts or ".." in PureWindowsPath(location).parts
    if not location or escapes or PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor:
        raise outside
    folder = path.resolve().parent
    # Resolved, so that a link cannot lead outside either.
    data = (folder / location).resolve()
    if not data.is_relative_to(folder):
        raise outside
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
    except ValueError:
        offset = length = -1
    if not data.is_file() or offset < 0 or length < 0 or offset + length > data.stat().st_size:
        raise SubjectError(
            "external-data-missing",
            f"{path} needs {length or 'all'} bytes at {offset} of {location!r} for its tensor {tensor.name!r}, which "
            "is missing or too short; copy the data file too.",
        )
