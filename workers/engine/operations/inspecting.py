"""``inspect``: loads one listing; leaves a runnable ONNX file, its canonical graph, and what they count."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from workers.engine.graph.canonical import canonicalise
from workers.engine.graph.export import export_module
from workers.engine.operations.subjects import open_subject
from workers.engine.protocol import Result

if TYPE_CHECKING:
    from pathlib import Path

    from workers.engine.graph.canonical import CanonicalGraph
    from workers.engine.protocol import Progress

_STEPS = 3


def run(request: dict[str, Any], scratch: Path, progress: Progress) -> Result:
    """Inspect ``{"subject"}``.

    ``contract`` is the one the model will be fed by: the listing's, or where its zoo documents none, what the graph's
    input shape alone says. ``parameters`` and ``buffers`` are the framework's own counts where the zoo has a framework,
    else the canonical graph's. Files: ``model`` (ONNX, runnable) and ``graph`` (canonical, JSON).
    """
    zoo, listing = open_subject(request["subject"])
    progress(0, _STEPS, f"loading {listing.ref}")
    model = zoo.load(listing)
    progress(1, _STEPS, f"exporting {listing.ref}")
    onnx = scratch / "model.onnx"
    shape = model.contract.input_shape()
    if model.onnx is None:
        export_module(model.module, shape, onnx)
        # The graph's passes hold copies of the weights; the module is not needed beside them.
        model.module = None
    else:
        _copy(model.onnx, onnx)
    progress(2, _STEPS, f"normalising the graph of {listing.ref}")
    graph = canonicalise(onnx)
    (scratch / "graph.json").write_text(json.dumps(graph.to_json()), encoding="utf-8")
    counts = graph.counts
    return Result(
        {
            "listing": model.listing.to_json(),
            "contract": model.contract.to_json(),
            "artifact": model.artifact.to_json(),
            "input_shape": list(shape),
            "output_shape": _output_shape(graph),
            "parameters": counts["parameters"] if model.parameters is None else model.parameters,
            "buffers": counts["buffers"] if model.buffers is None else model.buffers,
            "flops": counts["flops"],
            "macs": counts["macs"],
            "nodes": counts["nodes"],
            "fingerprint": graph.fingerprint,
            "notes": model.notes,
        },
        {"model": "model.onnx", "graph": "graph.json"},
    )


def _output_shape(graph: CanonicalGraph) -> list[int] | None:
    """Shape of the graph's first output with batch 1, or None when a later output of its node is meant."""
    source, index = graph.outputs[0]
    return list(graph.nodes[source].shape) if index == 0 else None


def _copy(source: Path, target: Path) -> None:
    """Copy a checked ONNX file; one with external data becomes a single file, so that its folder is not needed."""
    import onnx

    model = onnx.load(str(source), load_external_data=False)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        onnx.save_model(onnx.load(str(source)), str(target))
    else:
        shutil.copyfile(source, target)
