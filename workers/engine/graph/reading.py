"""Reading an ONNX file into a checked ``onnx_ir`` model: one opset, static shapes, nothing the audit cannot judge."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as ir_passes

from workers.engine.graph.passes.constants import OPSET
from workers.engine.protocol import SubjectError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLDEST_OPSET = 7
"""The first opset with numpy-style broadcasting; older graphs mean something else by Add."""

MAX_NODES = 100_000
"""Larger graphs are refused rather than compared for hours."""

_CONTROL_FLOW = ("If", "Loop", "Scan")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters' and converters' log lines; failures are raised, not logged."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def read(path: Path) -> ir.Model:
    """Load, check, inline and convert a model; batch 1.

    Raises SubjectError that names the first node (index in the file, from 0) which cannot be judged.
    """
    model = _load(path)
    check(model, path.name)
    return model


def check(model: ir.Model, name: str) -> None:
    """Check, inline and convert a model in memory, in place; ``name`` is what errors call it. Raises as ``read``."""
    graph = model.graph
    if len(graph) == 0:
        raise SubjectError("no-nodes", f"{name} holds a graph without nodes; there is nothing to compare.")
    if len(graph) > MAX_NODES:
        raise SubjectError(
            "too-many-nodes", f"unsupported: {name} has {len(graph)} nodes; at most {MAX_NODES} are compared."
        )
    opset = _opset(model, name)
    for index, node in enumerate(graph):
        _check_operator(model, node, index, opset)
        _check_inputs(node, index)
    _check_order(graph)
    for value in [value for value in graph.inputs if value.is_initializer()]:
        graph.inputs.remove(value)  # before IR version 4 every weight was also an input
    with quiet():
        ir_passes.InlinePass()(model)
        ir_passes.RemoveUnusedFunctionsPass()(model)
        _convert(model, opset, name)
    for index, node in enumerate(graph):
        _check_operator(model, node, index, max(opset, OPSET))
    _fix_batch(model)


def describe(node: ir.Node, index: int) -> str:
    """Name a node for people: its index in the file, and its own name when it has one."""
    return f"node {index} ({node.op_type}{f' {node.name}' if node.name else ''})"


def _load(path: Path) -> ir.Model:
    try:
        return ir.load(path)
    except FileNotFoundError as error:
        raise SubjectError("unreadable-onnx", f"{path} does not exist; name an ONNX file.") from error
    except Exception as error:  # the parsers raise their own kinds for broken bytes
        message = f"{path.name} cannot be read as an ONNX model ({_first_line(error)}); the file may be truncated."
        raise SubjectError("unreadable-onnx", message) from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


def _opset(model: ir.Model, name: str) -> int:
    opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx"))
    newest = onnx.defs.onnx_opset_version()
    if opset is None:
        raise SubjectError("no-opset", f"{name} names no opset of the standard ONNX operators; export it again.")
    if not OLDEST_OPSET <= opset <= newest:
        raise SubjectError(
            "unsupported-opset",
            f"unsupported: {name} uses opset {opset}; {OLDEST_OPSET} to {newest} are compared.",
        )
    return opset


def _check_operator(model: ir.Model, node: ir.Node, index: int, opset: int) -> None:
    if node.op_identifier() in model.functions:
        return
    if node.domain != "":
        raise SubjectError(
            "custom-operator", f"unsupported: custom operator {node.domain}.{node.op_type} at node {index}"
        )
    where = f"at node {index}{f' ({node.name})' if node.name else ''}"
    if node.op_type in _CONTROL_FLOW:
        raise SubjectError("control-flow", f"unsupported: control flow operator {node.op_type} {where}")
    if not onnx.defs.has(node.op_type, opset, ""):
        raise SubjectError("unknown-operator", f"unsupported: operator {node.op_type} of opset {opset} {where}")


def _check_inputs(node: ir.Node, index: int) -> None:
    for value in node.inputs:
        if value is None or value.producer() is not None or value.is_graph_input() or value.const_value is not None:
            continue
        raise SubjectError(
            "missing-initializer",
            f"{describe(node, index)} reads {value.name!r}, which no node, input or initializer provides.",
        )


def _check_order(graph: ir.Graph) -> None:
    """Sort the graph; a cycle is named by the first node of the file that waits for itself."""
    try:
        graph.sort()
    except ValueError:
        index, node = _first_in_cycle(graph)
        raise SubjectError(
            "cyclic-graph", f"the graph has a cycle through {describe(node, index)}; it computes nothing."
        ) from None


def _first_in_cycle(graph: ir.Graph) -> tuple[int, ir.Node]:
    order = list(graph)
    for index, node in enumerate(order):
        seen: set[int] = set()
        pending = [value.producer() for value in node.inputs if value is not None]
        while pending:
            before = pending.pop()
            if before is node:
                return index, node
            if before is None or id(before) in seen:
                continue
            seen.add(id(before))
            pending.extend(value.producer() for value in before.inputs if value is not None)
    return 0, order[0]


def _convert(model: ir.Model, opset: int, name: str) -> None:
    if opset >= OPSET:
        return
    from onnxscript import version_converter  # slow to import, needed for older files only

    try:
        version_converter.convert_version(model, target_version=OPSET, fallback=True)
    except Exception as error:
        raise SubjectError(
            "unconvertible-opset",
            f"{name} cannot be converted from opset {opset} to {OPSET}: {_first_line(error)}",
        ) from error
    if model.opset_imports.get("") != OPSET:
        raise SubjectError(
            "unconvertible-opset", f"{name} cannot be converted from opset {opset} to {OPSET} by onnx's converter."
        )


def _fix_batch(model: ir.Model) -> None:
    """Set a symbolic batch to 1 and forget shapes computed for it; refuse every other symbolic dimension."""
    symbolic = False
    for value in model.graph.inputs:
        if value.shape is None:
            raise SubjectError(
                "dynamic-shape", f"unsupported: input {value.name!r} has no shape; export a fixed shape."
            )
        sizes = list(value.shape)
        for axis, size in enumerate(sizes):
            if isinstance(size, int) and size > 0:
                continue
            if axis > 0:
                raise SubjectError(
                    "dynamic-shape",
                    f"unsupported: input {value.name!r} has the dynamic dimension {size!s} at axis {axis}; "
                    "export the model with a fixed shape.",
                )
            sizes[0], symbolic = 1, True
        value.shape = ir.Shape(sizes)
    if symbolic:
        for node in model.graph:
            for output in node.outputs:
                output.shape = None
