"""What an ONNX file may hold to be loaded."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from workers.engine.protocol import SubjectError, UnsafeError
from workers.engine.safety.sniff import sniff

if TYPE_CHECKING:
    from collections.abc import Iterator

STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training"})
"""Operator sets of the ONNX standard; everything else is code of a runtime's own."""

_NODES = 1_000_000
"""Nodes of a graph with the bodies of its functions in the place of their calls."""
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16}
_BITS |= {17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2}
"""Bits of an element in ``raw_data``, by ``TensorProto.DataType``."""
_MOST_ELEMENTS_A_BYTE = 4
"""In the typed fields of a tensor, where every element of eight bits or more takes a byte at least."""


def check_onnx(path: Path) -> None:
    """Check an ONNX file without running it: readable, with a graph, standard operators, data inside its folder.

    Must run in the limited child process: reading is loading too.

    Raises:
        SubjectError: The file is missing, empty, truncated, of another format, has no nodes, or lacks its data file.
        UnsafeError: It uses operators outside the standard, or external data outside its folder; its functions call
            each other in a circle or make a graph beyond all measure, or a tensor is smaller than it declares.
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
    _check_functions(path, model)
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_external(path, tensor)
        else:
            _check_size(path, tensor)


def _graphs(model: Any) -> Iterator[Any]:
    """Yield the main graph, every function body and every subgraph."""
    for graph in (model.graph, *model.functions):
        yield from _nested(graph)


def _nested(graph: Any) -> Iterator[Any]:
    """Yield a graph and every graph inside it. No recursion: nesting depth is the file's word."""
    waiting = [graph]
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


def _check_functions(path: Path, model: Any) -> None:
    """Refuse functions without an end, and those that call each other until the graph has more nodes than any model."""
    bodies = {(function.domain, function.name): function for function in model.functions}
    calls = {name: _calls(function, bodies) for name, function in bodies.items()}
    sizes: dict[Any, int] = {}
    waiting = set(bodies)
    while waiting:
        ready = {name for name in waiting if calls[name].keys() <= sizes.keys()}
        if not ready:
            domain, name = min(waiting)
            raise UnsafeError(
                "endless-function",
                f"{path} is not loaded: its function {domain}.{name} calls itself, by way of others or none, so that "
                "its graph has no end; export the model again.",
            )
        for name in ready:
            sizes[name] = min(_NODES + 1, len(bodies[name].node) + sum(sizes[to] * n for to, n in calls[name].items()))
        waiting -= ready
    whole = sum(sizes[to] * n for to, n in _calls(model.graph, bodies).items())
    if whole > _NODES:
        raise UnsafeError(
            "bomb",
            f"{path} is not loaded: its functions make a graph of more than {_NODES} nodes; export the model again.",
        )


def _calls(graph: Any, bodies: Any) -> Counter[tuple[str, str]]:
    """Count the calls of functions in a graph and the graphs inside it."""
    found = ((node.domain, node.op_type) for inner in _nested(graph) for node in inner.node)
    return Counter(name for name in found if name in bodies)


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


def _bytes(tensor: Any) -> int | None:
    """Return the bytes that a tensor declares; None for texts, whose lengths nothing declares."""
    bits = _BITS.get(tensor.data_type)
    return None if bits is None else -(-math.prod(tensor.dims) * bits // 8)


def _check_size(path: Path, tensor: Any) -> None:
    """Refuse a tensor that declares more than is there, or a negative size: a reader would allocate it."""
    declared, raw = _bytes(tensor), tensor.raw_data
    elements = math.prod(tensor.dims)
    there = len(raw) if raw else tensor.ByteSize() * (1 if declared is None else _MOST_ELEMENTS_A_BYTE)
    wrong = (declared is not None and declared != there) if raw else elements > there
    if wrong or any(side < 0 for side in tensor.dims):
        raise UnsafeError(
            "false-sizes",
            f"{path} is not loaded: its tensor {tensor.name!r} declares the shape {list(tensor.dims)}, which its data "
            "does not fill; export the model again.",
        )


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
    length = max(length, _bytes(tensor) or 0)
    if not data.is_file() or offset < 0 or length < 0 or offset + length > data.stat().st_size:
        raise SubjectError(
            "external-data-missing",
            f"{path} needs {length or 'all'} bytes at {offset} of {location!r} for its tensor {tensor.name!r}, which "
            "is missing or too short; copy the data file too.",
        )
