"""The canonical graph: what a model computes, without names, weights, layout or exporter habits.

``canonicalise`` reads an ONNX file; everything after it works on the plain values below.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir

FORM = 2
"""Version of the canonical form; graphs of different versions do not compare."""

INPUT = "Input"
"""Operator name of a graph input."""

SIZED = "written_for_size"
"""Attribute: how a node was written where its canonical spelling holds at this input size alone; see ``sizes``."""

NUMERIC = ("epsilon", "batch_norm", "padding_as_written", SIZED)
"""Attributes that do not enter the fingerprint: an epsilon, whether a batch-norm had already been folded, and how a
pool's rounding and padding were written before both became explicit, and what holds at this input size alone."""

COMMUTATIVE = ("Add", "Mul", "Max", "Min", "And", "Or", "Equal")
"""Operators whose data operands may be swapped."""


@dataclass(frozen=True)
class Node:
    """One operator. ``shape`` is that of its first output, batch 1 first.

    ``inputs`` are (node id, output index) of the data it reads, ``weights`` the shapes of the constants with more than
    one element that it holds, ``counts`` what it stands for in the model as published (see ``count.annotate``), and
    ``source`` the name that people find in the published model.
    """

    id: int
    op: str
    attributes: dict[str, Any]
    inputs: tuple[tuple[int, int], ...]
    weights: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    source: str
    counts: dict[str, int] = field(default_factory=dict)

    def label(self) -> str:
        """Digest input of this node alone: operator, semantic attributes, weight shapes."""
        semantic = {key: value for key, value in self.attributes.items() if key not in NUMERIC}
        shape = self.shape[1:] if self.op == INPUT else ()
        return json.dumps([self.op, semantic, self.weights, shape], sort_keys=True)


@dataclass(frozen=True)
class CanonicalGraph:
    """Nodes in topological order (``nodes[i].id == i``), the outputs, and the totals of the model as published."""

    nodes: tuple[Node, ...]
    outputs: tuple[tuple[int, int], ...]
    counts: dict[str, int]
    input_layout: str = "nchw"

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """Digest of each node's whole past; equal digests compute the same function of the inputs' shapes."""
        found: list[str] = []
        for node in self.nodes:
            past = [f"{found[source]}:{index}" for source, index in node.inputs]
            if node.op in COMMUTATIVE:
                past.sort()
            found.append(hashlib.sha256("|".join([node.label(), *past]).encode()).hexdigest())
        return tuple(found)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the structure: independent of names, node order, operand order, batch, weights and epsilons."""
        ends = [f"{self.digests[source]}:{index}" for source, index in self.outputs]
        return hashlib.sha256(f"{FORM}|{'|'.join(ends)}".encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return this graph as JSON, with its fingerprint."""
        return {
            "form": FORM,
            "fingerprint": self.fingerprint,
            "input_layout": self.input_layout,
            "counts": self.counts,
            "outputs": [list(edge) for edge in self.outputs],
            "nodes": [
                {
                    "op": node.op,
                    "attributes": node.attributes,
                    "inputs": [list(edge) for edge in node.inputs],
                    "weights": [list(shape) for shape in node.weights],
                    "shape": list(node.shape),
                    "source": node.source,
                    "counts": node.counts,
                }
                for node in self.nodes
            ],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> CanonicalGraph:
        """Build a graph from ``to_json``'s form; raises ValueError when another version wrote it."""
        if value.get("form") != FORM:
            raise ValueError(f"canonical form {value.get('form')!r} cannot be read; canonicalise the model again.")
        nodes = tuple(
            Node(
                id=index,
                op=item["op"],
                attributes=item["attributes"],
                inputs=tuple((edge[0], edge[1]) for edge in item["inputs"]),
                weights=tuple(tuple(shape) for shape in item["weights"]),
                shape=tuple(item["shape"]),
                source=item["source"],
                counts=item["counts"],
            )
            for index, item in enumerate(value["nodes"])
        )
        outputs = tuple((edge[0], edge[1]) for edge in value["outputs"])
        return cls(nodes=nodes, outputs=outputs, counts=value["counts"], input_layout=value["input_layout"])


def canonicalise(path: Path) -> CanonicalGraph:
    """Read an ONNX file of any opset from 7 into its canonical graph.

    Raises SubjectError, naming the node, for what cannot be read or judged (see ``reading.read``).
    """
    from workers.engine.graph.extract import extract

    model, batch = canonical_model(path)
    return extract(model, batch)


def canonical_model(path: Path) -> tuple[ir.Model, int]:
    """Return the canonical, still runnable ``onnx_ir`` model and the batch it was published with.

    Folded weights are lazy: they are computed when the model is run or saved. Raises as ``canonicalise``.
    """
    from workers.engine.graph import reading

    model = reading.read(path)
    return model, normalise(model)


def normalise(model: ir.Model) -> int:
    """Bring a checked model (``reading.check``) into canonical form, in place; return its published batch."""
    from workers.engine.graph import count, passes, reading
    from workers.engine.graph.extract import name_sources

    shapes = [value.shape for value in model.graph.inputs if value.shape is not None and len(value.shape) > 1]
    batch = int(shapes[0][0]) if shapes else 1
    with reading.quiet():
        passes.prepare(model)
        name_sources(model)
        passes.run(model, passes.STANDARD)
        count.annotate(model, batch)
        passes.run(model, [*passes.STANDARD, *passes.FOLD])
    return batch
