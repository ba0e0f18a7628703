"""``structure``: fingerprint, vector and counts of one listing without its weights. Downloads nothing."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING, Any

from workers.engine.graph.canonical import canonicalise
from workers.engine.graph.embedding import vector
from workers.engine.graph.export import structure_of
from workers.engine.graph.passes.rewriting import AbsentValueError
from workers.engine.operations.subjects import open_subject
from workers.engine.protocol import Result
from workers.engine.zoos.base import NO_WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from workers.engine.graph.canonical import CanonicalGraph
    from workers.engine.protocol import Progress
    from workers.engine.zoos.base import Listing, Structure, Zoo

_STEPS = 2


def run(request: dict[str, Any], scratch: Path, progress: Progress) -> Result:
    """Give the structure of ``{"subject"}``: what ``inspect`` says of the graph, and no artifact.

    ``weights`` is ``absent`` when the large parameters never had memory, ``random`` when the zoo or the model needs
    some, ``published`` for a file. ``vector`` is ``embedding.vector``'s. ``cost`` is what this took, the time of
    starting the engine left out: ``seconds``, ``processor_seconds`` and the process's ``peak_bytes`` of memory.
    """
    del scratch
    started, spent = time.monotonic(), time.process_time()
    zoo, listing = open_subject(request["subject"])
    progress(0, _STEPS, f"building {listing.ref} without weights")
    found = zoo.structure(listing)
    progress(1, _STEPS, f"normalising the graph of {listing.ref}")
    graph = graph_of(zoo, listing, found)
    counts = graph.counts
    return Result(
        {
            "listing": found.listing.to_json(),
            "input_shape": list(found.contract.input_shape()),
            "weights": found.weights,
            "parameters": counts["parameters"] if found.parameters is None else found.parameters,
            "buffers": counts["buffers"] if found.buffers is None else found.buffers,
            "counts": counts,
            "fingerprint": graph.fingerprint,
            "vector": vector(graph),
            "notes": found.notes,
            "cost": {
                "seconds": time.monotonic() - started,
                "processor_seconds": time.process_time() - spent,
                "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            },
        }
    )


def graph_of(zoo: Zoo, listing: Listing, found: Structure) -> CanonicalGraph:
    """Return the canonical graph of a structure.

    A model whose structure depends on the elements of a large weight is built once more, with random weights, if its
    zoo has the tag ``none``; ``found`` then says so.
    """
    if found.onnx is not None:
        return canonicalise(found.onnx)
    shape = found.contract.input_shape()
    try:
        return structure_of(found.module, shape)
    except AbsentValueError as error:
        model = zoo.load(zoo.describe(listing.name, NO_WEIGHTS))
        found.weights, found.module = "random", model.module
        found.notes.append(f"Built with random weights: {error.message}")
        return structure_of(model.module, shape, absent=False)
