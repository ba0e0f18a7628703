"""The architecture verdict on two canonical graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.engine.graph.align import align
from workers.engine.graph.composites import fuse
from workers.engine.graph.diff import Diff
from workers.engine.graph.sizes import input_sizes
from workers.engine.graph.view import joint, rows, words

if TYPE_CHECKING:
    from pathlib import Path

    from workers.engine.graph.canonical import CanonicalGraph

_TOTALS = ("parameters", "buffers", "flops", "macs", "activations", "nodes")
_ORDER = ("structural", "interface", "numeric", "cosmetic")


def compare(
    a: CanonicalGraph,
    b: CanonicalGraph,
    models: tuple[Path, Path, Path] | None = None,
    picture: tuple[Path, str, str] | None = None,
) -> dict[str, Any]:
    """Return the architecture part of a comparison: verdict, totals, differences, aligned layers around them, proof.

    ``models`` are A's and B's ONNX files and a scratch folder. ``identical`` means equal fingerprints and no difference
    of any severity. ``same_function`` means interface, numeric or cosmetic differences alone, and that both were run
    and computed the same with the same weights (``prove.prove``). Everything else is ``different``; ``note`` says why
    where there is no structural difference. ``proof`` is null where there is nothing to prove: without files, or with a
    structural difference. Totals count the models as published; ``flops`` is twice ``macs``. The worst differences come
    first, each severity in the order of the dataflow. ``input_sizes`` says where what they share holds only at the
    input size of the comparison (``sizes.input_sizes``). ``picture`` is the SVG file to write, and the references of A
    and B to write over it; ``diagram`` then says why there is none, if there is none.
    """
    fused_a, fused_b = fuse(a), fuse(b)
    alignment = align(fused_a, fused_b)
    found = Diff(fused_a, fused_b, alignment).differences()
    same = a.fingerprint == b.fingerprint
    if not same and not any(item["severity"] in ("structural", "interface") for item in found):
        found.append(_unexplained(a, b) | {"at": [[_first_unlike(fused_a, fused_b)]]})
    found.sort(key=lambda item: _ORDER.index(item["severity"]))
    severities = {item["severity"] for item in found}
    places = [item.pop("at") for item in found]
    grave = [index for index, item in enumerate(found) if item["severity"] in ("structural", "interface")]
    view = joint.sheet(fused_a, fused_b, alignment, places, grave)
    proof = None
    if models is not None and "structural" not in severities:
        from workers.engine.graph.prove import prove  # the runtimes take a while to import

        exact = same and not found
        proof = prove(*models[:2], scratch=models[2], exact=exact, numeric="numeric" in severities)
    verdict, note = _verdict(severities, proof, same=same)
    answer = {
        "verdict": verdict,
        "a": {key: a.counts[key] for key in _TOTALS},
        "b": {key: b.counts[key] for key in _TOTALS},
        "fingerprints": {"a": a.fingerprint, "b": b.fingerprint},
        "differences": [item | {"text": words.difference_text(item)} for item in found],
        "aligned": rows.aligned(view),
        "diagram": None,
        "input_sizes": input_sizes(fused_a, fused_b, alignment, structural="structural" in severities),
        "note": note,
        "proof": proof,
    }
    if picture is not None:
        from workers.engine.graph.view import drawing  # the layout library takes a while to import

        answer["diagram"] = {"left_out": drawing.write(picture[0], view, answer, *picture[1:])}
    return answer


def _verdict(severities: set[str], proof: dict[str, Any] | None, *, same: bool) -> tuple[str, str | None]:
    """Join what was found and what was run; nothing but a proof that held makes ``same_function``."""
    proven = proof["proven"] if proof is not None else None
    reason = proof["reason"] if proof is not None else None
    if "structural" in severities:
        return "different", None
    if same and not severities:
        if proven is False:
            return "different", f"The canonical graphs are equal, but running both contradicts it: {reason}"
        return "identical", None if proven or reason is None else f"The graphs are equal; running both failed: {reason}"
    text = "No structural difference: the graphs differ only in interface, numerics or representation."
    if proven:
        return "same_function", f"{text} Run with the same weights they computed the same."
    if proven is False:
        return "different", f"{text} Run with the same weights they did not compute the same: {reason}"
    why = "" if reason is None else f": {reason}"
    return "different", f"{text} Whether they compute the same function was not proven by running them{why or '.'}"


def _unexplained(a: CanonicalGraph, b: CanonicalGraph) -> dict[str, Any]:
    """Name the first node whose past differs where no single difference was found; never silently the same."""
    first = _first_unlike(a, b)
    left, right = a.nodes[first[0]], b.nodes[first[1]]
    return {
        "kind": "rewired",
        "attribute": None,
        "severity": "structural",
        "a": {"node": left.source, "op": left.op, "value": [a.nodes[source].source for source, _ in left.inputs]},
        "b": {"node": right.source, "op": right.op, "value": [b.nodes[source].source for source, _ in right.inputs]},
    }


def _first_unlike(a: CanonicalGraph, b: CanonicalGraph) -> tuple[int, int]:
    """Return each graph's first node whose past the other does not have; without one, the nodes of the outputs."""
    known, others = set(b.digests), set(a.digests)
    left = next((node.id for node in a.nodes if a.digests[node.id] not in known), a.outputs[0][0])
    right = next((node.id for node in b.nodes if b.digests[node.id] not in others), b.outputs[0][0])
    return left, right
