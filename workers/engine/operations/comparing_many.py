"""``compare_many``: pairs of one data set by their predictions; every file is read once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.accuracy import paired, store
from workers.engine.protocol import EngineError, Result

if TYPE_CHECKING:
    from workers.engine.protocol import Progress


def run(request: dict[str, Any], scratch: Path, progress: Progress) -> Result:
    """Compare ``{"files": {name: path}, "pairs": [[id, a, b], ...]}``.

    Returns ``{"pairs": {id: block}, "errors": {id: error}}``; a block is what ``compare`` has under ``accuracy``,
    measured but not judged.
    """
    del scratch
    answers = {name: store.read(Path(path)) for name, path in request["files"].items()}
    blocks: dict[str, Any] = {}
    errors: dict[str, Any] = {}
    for done, (name, a, b) in enumerate(request["pairs"]):
        progress(done, len(request["pairs"]), f"comparing {a} with {b}")
        try:
            blocks[name] = paired.compare(answers[a], answers[b]) | {"dataset": answers[a].dataset}
        except EngineError as error:  # of this pair; the others stand all the same
            errors[name] = error.to_json()
    return Result({"pairs": blocks, "errors": errors})
