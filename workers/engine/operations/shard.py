"""``shard``: one model answers some consecutive items of a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.engine.accuracy.datasets import open_dataset
from workers.engine.operations.predict import inference
from workers.engine.protocol import Result

if TYPE_CHECKING:
    from pathlib import Path

    from workers.engine.protocol import Progress


def run(request: dict[str, Any], scratch: Path, progress: Progress) -> Result:
    """Answer the items [``start``, ``stop``) of what ``predict`` is asked for, less ``at_most``.

    The shard with the first item also measures the self-noise, which is null in the others. File: ``answers`` (npz, see
    ``accuracy.answers``).
    """
    dataset = open_dataset(request["dataset"])
    asked = inference(request, dataset, progress)
    answers, provenance = asked.answer(request["start"], request["stop"])
    noise = asked.self_noise(answers) if request["start"] == 0 else None
    answers.write(scratch / "answers.npz")
    return Result({"provenance": provenance, "self_noise": noise}, {"answers": "answers.npz"})
