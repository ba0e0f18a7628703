"""Whether a changed model is told from its base: detected, located, and in how many differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx

from architecture.draft import prepared
from architecture.proof import Reference
from architecture.weights import draw_small
from workers.engine.graph.canonical import CanonicalGraph, canonicalise
from workers.engine.graph.compare import compare
from workers.engine.protocol import SubjectError

if TYPE_CHECKING:
    from pathlib import Path

    from architecture.mutations import Mutant


@dataclass(frozen=True)
class Base:
    """One base network: its prepared ONNX model, its canonical graph, and the values of one run."""

    name: str
    proto: onnx.ModelProto
    canonical: CanonicalGraph
    reference: Reference


@dataclass(frozen=True)
class Judged:
    """What the comparison said about one mutant."""

    detected: bool
    located: bool
    differences: list[dict[str, Any]]


def load(name: str, path: Path) -> Base:
    """Read a base network from an ONNX file and run it once; its nodes get unique names.

    The values of that run are kept beside the file.
    """
    proto = prepared(onnx.load(path, load_external_data=False))
    draw_small(proto)
    return Base(name, proto, canonical(proto, path), Reference(proto, path.with_suffix(".npz")))


def canonical(proto: onnx.ModelProto, path: Path) -> CanonicalGraph:
    """Canonical graph of a model, by way of a file at ``path``."""
    path.write_bytes(proto.SerializeToString())
    return canonicalise(path)


def differences(base: Base, proto: onnx.ModelProto, path: Path) -> list[dict[str, Any]]:
    """Compare a rewrite with its base; a rewrite that is refused differs in structure, with the reason."""
    try:
        graph = canonical(proto, path)
    except SubjectError as error:
        refused = {"node": str(error), "value": error.code}
        return [{"kind": "refused", "attribute": None, "severity": "structural", "a": None, "b": refused}]
    return compare(base.canonical, graph)["differences"]


def judge(base: Base, mutant: Mutant, path: Path) -> Judged:
    """Compare a mutant with its base.

    Detected: some difference that is not cosmetic. Located: one of them names a changed node, or, where the canonical
    form has merged that node into another, the nearest node before or behind it that the canonical form still has.
    """
    graph = canonical(mutant.proto, path)
    found = compare(base.canonical, graph)["differences"]
    wanted = _places(base.proto, base.canonical, mutant.places) | _places(mutant.proto, graph, mutant.places)
    named: set[str] = set()
    for item in found:
        for place in (item, *item.get("also", ())):
            named.update(node["node"] for node in place.get("run", ()))
            for side in "ab":
                value = place.get(side)
                if value is not None:
                    named.add(value if isinstance(value, str) else value["node"])
    detected = any(item["severity"] != "cosmetic" for item in found)
    return Judged(detected, detected and bool(wanted & named), found)


def _places(proto: onnx.ModelProto, graph: CanonicalGraph, places: tuple[str, ...]) -> set[str]:
    """Names of the canonical nodes that hold the named nodes of a file."""
    known = {node.source for node in graph.nodes}
    nodes = {node.name: node for node in proto.graph.node}
    makers = {name: node for node in proto.graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = set()
    for place in places:
        if place not in nodes:
            continue
        if place in known:
            found.add(place)
            continue
        for forward in (False, True):
            pending = [nodes[place]]
            while pending:
                node = pending.pop()
                if forward:
                    near = [reader for name in node.output for reader in readers.get(name, ())]
                else:
                    near = [makers[name] for name in node.input if name in makers]
                found |= {item.name for item in near if item.name in known}
                pending += [item for item in near if item.name not in known]
    return found
