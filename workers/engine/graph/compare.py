"""The architecture verdict on two canonical graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.engine.graph.align import align
from workers.engine.graph.composites import fuse
from workers.engine.graph.diff import Diff

if TYPE_CHECKING:
    from workers.engine.graph.canonical import CanonicalGraph

_TOTALS = ("parameters", "buffers", "flops", "macs", "activations", "nodes")
_ORDER = ("structural", "interface", "numeric", "cosmetic")


def compare(a: CanonicalGraph, b: CanonicalGraph) -> dict[str, Any]:
    """Return the architecture part of a comparison: verdict, totals of both sides, differences.

    ``identical`` means equal fingerprints and no difference of any severity. Everything else is ``different``: that two
    graphs which differ only in interface, numerics or representation compute the same function is claimed only after
    running both, and ``note`` says that this was not done. Totals count the models as published; ``flops`` is twice
    ``macs``. The worst differences come first, each severity in the order of the dataflow.
    """
    fused_a, fused_b = fuse(a), fuse(b)
    found = Diff(fused_a, fused_b, align(fused_a, fused_b)).differences()
    same = a.fingerprint == b.fingerprint
    if not same and not any(item["severity"] in ("structural", "interface") for item in found):
        found.append(_unexplained(a, b))
    found.sort(key=lambda item: _ORDER.index(item["severity"]))
    note = None
    if found and not any(item["severity"] == "structural" for item in found):
        note = (
            "No structural difference: the graphs differ only in interface, numerics or representation. "
            "Whether they compute the same function was not proven by running them."
        )
    return {
        "verdict": "identical" if same and not found else "different",
        "a": {key: a.counts[key] for key in _TOTALS},
        "b": {key: b.counts[key] for key in _TOTALS},
        "fingerprints": {"a": a.fingerprint, "b": b.fingerprint},
        "differences": found,
        "note": note,
    }


def _unexplained(a: CanonicalGraph, b: CanonicalGraph) -> dict[str, Any]:
    """Name the first node whose past differs where no single difference was found; never silently the same."""
    known = set(b.digests)
    others = set(a.digests)
    left = next((node for node in a.nodes if a.digests[node.id] not in known), a.nodes[a.outputs[0][0]])
    right = next((node for node in b.nodes if b.digests[node.id] not in others), b.nodes[b.outputs[0][0]])
    return {
        "kind": "rewired",
        "attribute": None,
        "severity": "structural",
        "a": {"node": left.source, "op": left.op, "value": [a.nodes[source].source for source, _ in left.inputs]},
        "b": {"node": right.source, "op": right.op, "value": [b.nodes[source].source for source, _ in right.inputs]},
    }
