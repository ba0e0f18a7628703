"""``latency``: times listings against each other in one session."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.contracts.contract import Contract
from workers.engine.latency.points import Entry, OperatingPoint
from workers.engine.latency.session import measure
from workers.engine.operations.subjects import module_of, open_subject
from workers.engine.protocol import Result

if TYPE_CHECKING:
    from workers.engine.protocol import Progress


def run(request: dict[str, Any], scratch: Path, progress: Progress) -> Result:
    """Time ``{"entries", "points", "budget_s", "margin", "seed", "memory_bytes"}``; the result is the session's JSON.

    An entry is ``{"subject", "model", "input_shape", "contract"}``, ``model`` being the ONNX file that ``inspect``
    left, ``contract`` None where the zoo documents none; a point has the fields of ``OperatingPoint``. File:
    ``samples`` (npz, every timed iteration).
    """
    session = measure(
        [_entry(entry) for entry in request["entries"]],
        [OperatingPoint(**point) for point in request["points"]],
        budget_s=request["budget_s"],
        margin=request["margin"],
        seed=request["seed"],
        progress=progress,
        memory_bytes=request["memory_bytes"],
        scratch=scratch,
    )
    session.write_samples(scratch / "samples.npz")
    return Result(session.to_json(), {"samples": "samples.npz"})


def _entry(value: dict[str, Any]) -> Entry:
    subject = value["subject"]
    _, listing = open_subject(subject)
    return Entry(
        ref=subject["ref"],
        onnx=Path(value["model"]),
        # Called in each block's own process, which has to load the module for itself.
        module=partial(module_of, subject) if "torch" in listing.runtimes else None,
        input_shape=tuple(value["input_shape"]),
        contract=Contract.from_json(value["contract"]) if value["contract"] else None,
    )
