"""``compare``: two listings by what was measured of each. Imports neither torch nor a zoo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.graph.canonical import CanonicalGraph
from workers.engine.graph.compare import compare
from workers.engine.protocol import EngineError, Result

if TYPE_CHECKING:
    from workers.engine.protocol import Progress

_SIDES = 2

_PICTURE = "diagram.svg"


def run(request: dict[str, Any], scratch: Path, progress: Progress) -> Result:
    """Compare ``{"a": {"ref", "graph", "model", "predictions"}, "b": ...}``, file paths or null.

    ``model`` is the ONNX file that ``graph`` was read from; with both, models without a structural difference are run
    to prove that they compute the same. Returns ``{"architecture", "accuracy", "errors"}``, measured but not judged;
    null where a side has no file, or where the two cannot be compared: ``errors`` then says why, by dimension.
    File: ``diagram`` (SVG of both graphs), unless ``architecture.diagram.left_out`` says why there is none.
    """
    progress(0, 1, "comparing")
    a, b = request["a"], request["b"]
    graphs = [_graph(side["graph"]) for side in (a, b) if side["graph"]]
    paths = [Path(side["predictions"]) for side in (a, b) if side["predictions"]]
    result: dict[str, Any] = {"architecture": None, "accuracy": None}
    errors: dict[str, Any] = {}
    if len(graphs) == _SIDES:
        models = [Path(side["model"]) for side in (a, b) if side.get("model")]
        proving = (models[0], models[1], scratch) if len(models) == _SIDES else None
        picture = (scratch / _PICTURE, a["ref"], b["ref"])
        result["architecture"] = compare(graphs[0], graphs[1], proving, picture)
    if len(paths) == _SIDES:
        try:
            result["accuracy"] = _accuracy(*paths)
        except EngineError as error:  # what the graphs say stands all the same
            errors["accuracy"] = error.to_json()
    return Result(result | {"errors": errors}, {"diagram": _PICTURE} if (scratch / _PICTURE).exists() else {})


def _graph(path: str) -> CanonicalGraph:
    return CanonicalGraph.from_json(json.loads(Path(path).read_text(encoding="utf-8")))


def _accuracy(a: Path, b: Path) -> dict[str, Any]:
    from workers.engine.accuracy import paired, store

    predictions = store.read(a)
    return paired.compare(predictions, store.read(b)) | {"dataset": predictions.dataset}
