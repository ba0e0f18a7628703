"""Sameness proven: A's weights in B's graph, both run on random inputs, in float32 and in float64.

Four functions are compared, so that no step rests on trust: each published file against its own canonical form (that
the passes kept the function), and A's canonical form against B's with A's weights (that the difference list is
complete). The error of B relative to float64 may be at most twice A's own.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.engine.graph import interface, probe
from workers.engine.graph.align import align
from workers.engine.graph.lockstep import Run, relative_error, run_both, run_double, run_file, run_float
from workers.engine.graph.passes import rewriting as rw
from workers.engine.graph.transplant import place, transplant
from workers.engine.protocol import SubjectError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnx_ir as ir

    from workers.engine.graph.lockstep import Batch
    from workers.engine.graph.transplant import Placed

FLOOR = 1e-6
"""Errors below this are float32 rounding (its resolution is 1.2e-7, an error of a network's output some times that)."""

MOST = 1e-3
"""A model whose own float32 results are further than this from float64 cannot be judged."""

SLACK = 8
"""A published file may be this many times as far from float64 as its canonical form: folding rounds otherwise, and a
final Softmax magnifies rounding. A pass that changed the function is orders of magnitude away."""

INPUTS = 3
FEWER_INPUTS = 2
LARGE_MACS = 5_000_000_000
"""Models from this size on are run on ``FEWER_INPUTS``; equal graphs of any size on one."""

SECONDS = 180.0
MAX_PARAMETERS = 250_000_000
MAX_MACS = 60_000_000_000
"""Larger models are not run: about 32 bytes of memory a parameter, and seconds for every 10^9 multiply-
accumulates."""

_KEYS = (
    "ran", "proven", "reason", "inputs", "compared", "error_float32", "error_float64", "tolerance", "effect",
    "node_pairs", "first_divergence", "published", "redrawn",
)  # fmt: skip
"""What a proof says; null for what it did not come to measure."""


def prove(a_path: Path, b_path: Path, *, scratch: Path, exact: bool, numeric: bool) -> dict[str, Any]:
    """Run A, and B with A's weights; return the ``proof`` block of a comparison.

    Call it for two ONNX files without structural differences: ``exact`` says that the canonical graphs are equal (one
    input is enough then), ``numeric`` that an epsilon differs (inner results may differ then, the outputs may not).
    ``proven`` is True, False, or None when it could not be run (``reason`` says why). Errors are relative: root mean
    square of the difference over that of float64's result. Never raises for what a model cannot do.
    """
    started = time.monotonic()
    try:
        found = _prove(a_path, b_path, scratch, started + SECONDS, exact=exact, numeric=numeric)
    except SubjectError as error:
        found = {"ran": False, "proven": None, "reason": str(error)}
    except MemoryError:
        found = {"ran": False, "proven": None, "reason": "there was not enough memory to run both models."}
    except Exception as error:  # noqa: BLE001  (runtimes raise their own kinds; none of them may become a claim)
        reason = next(iter(str(error).strip().splitlines()), "")[:300]
        found = {"ran": False, "proven": None, "reason": f"running the models failed: {type(error).__name__}: {reason}"}
    return dict.fromkeys(_KEYS) | found | {"seconds": round(time.monotonic() - started, 1)}


def _prove(a_path: Path, b_path: Path, scratch: Path, deadline: float, *, exact: bool, numeric: bool) -> dict[str, Any]:
    copies = [scratch / f"probe-{side}.onnx" for side in "ab"]
    try:
        files = [probe.probing_weights(path, copy) for path, copy in zip((a_path, b_path), copies, strict=True)]
        a, b = (place(path) for path, _ in files)
        for side in (a, b):
            _check_size(side)
        published = {
            name: _published(side, path, deadline) for name, side, (path, _) in zip("ab", (a, b), files, strict=True)
        }
        common = {"redrawn": {"a": files[0][1], "b": files[1][1]}, "published": published}
        for name, row in published.items():
            if row["error"] > row["tolerance"]:
                reason = f"the canonical form of {name.upper()} does not compute what the published file does."
                return common | {"ran": True, "proven": False, "reason": reason, "first_divergence": None}
        large = max(side.graph.counts["macs"] for side in (a, b)) >= LARGE_MACS
        inputs = 1 if exact else FEWER_INPUTS if large else INPUTS
        return common | _compare(a, b, deadline, inputs=inputs, numeric=numeric)
    finally:
        for copy in copies:
            copy.unlink(missing_ok=True)


def _check_size(side: Placed) -> None:
    counts = side.graph.counts
    for key, most in (("parameters", MAX_PARAMETERS), ("macs", MAX_MACS)):
        if counts[key] > most:
            raise SubjectError("too-large-to-prove", f"{counts[key]:,} {key}; models up to {most:,} are run.")


def _published(side: Placed, path: Path, deadline: float) -> dict[str, float]:
    """Compare a published file with its canonical form, each in its own layout, on one input."""
    given = [probe.feeds(side.model, seed=0)]
    published = run_file(path, given)
    reference = run_double(side, given, deadline)
    own = run_float(side, given)
    return {"error": _worst(published, reference), "tolerance": _tolerance(_worst(own, reference), SLACK)}


def _compare(a: Placed, b: Placed, deadline: float, *, inputs: int, numeric: bool) -> dict[str, Any]:
    alignment = align(a.graph, b.graph)
    compared = interface.strip(a, b, alignment)
    given = _given(a, b, inputs)
    weights = transplant(a, b, alignment)
    pairs = [
        (left, right)
        for left, right in ((a.node(one), b.node(other)) for one, other in alignment.pairs)
        if left is not None and right is not None
    ]
    errors: dict[int, float] = {}
    runs = (
        Run(a, given, {}, Counter(id(left.outputs[0]) for left, _ in pairs)),
        Run(b, given, weights, Counter(id(right.outputs[0]) for _, right in pairs)),
    )
    run_both(*runs, pairs, errors.__setitem__, deadline)
    a64, b64 = interface.without_background(runs[0].outputs(), runs[1].outputs())
    a32, b32 = interface.without_background(run_float(a, given), run_float(b, given))
    _check_outputs(a64)
    tolerance = _tolerance(_worst(a32, a64))
    found: dict[str, Any] = {
        "inputs": inputs,
        "compared": compared,
        "error_float32": {"a": _worst(a32, a64), "b": _worst(b32, a64)},
        "error_float64": _worst(b64, a64),
        "tolerance": tolerance,
        "effect": {"max_abs": _largest_difference(a64, b64), "relative": _worst(b64, a64)},
        "node_pairs": len(errors),
    }
    diverging = [place for place in sorted(errors) if errors[place] > tolerance]
    same = found["error_float64"] <= tolerance and found["error_float32"]["b"] <= tolerance
    proven = same and (numeric or not diverging)
    return found | {
        "ran": True,
        "proven": proven,
        "reason": None if proven else _why_not(found, same=same),
        "first_divergence": None if proven or not diverging else _divergence(pairs[diverging[0]], errors[diverging[0]]),
    }


def _given(a: Placed, b: Placed, inputs: int) -> list[Batch]:
    shapes = [[array.shape for array in probe.feeds(side.model, 0)] for side in (a, b)]
    if shapes[0] != shapes[1]:
        raise SubjectError("inputs-differ", f"A takes inputs of shape {shapes[0]}, B of {shapes[1]}.")
    if len(a.model.graph.outputs) != len(b.model.graph.outputs):
        raise SubjectError("outputs-differ", "A and B have different numbers of outputs.")
    return [probe.feeds(a.model, seed) for seed in range(inputs)]


def _tolerance(own: float, times: float = 2) -> float:
    """By default twice A's own error (STATISTICS §3), at least ``FLOOR``; raises SubjectError above ``MOST``."""
    if not own <= MOST:
        raise SubjectError("float32-unstable", f"float32 results are {own:.1e} from float64's; nothing can be told.")
    return max(times * own, FLOOR)


def _check_outputs(outputs: Sequence[Batch]) -> None:
    """Refuse outputs that would agree whatever the function: not finite, or the same for every input."""
    if not all(np.isfinite(array).all() for batch in outputs for array in batch):
        raise SubjectError("output-not-finite", "the output is not finite with these weights; nothing can be told.")
    if len(outputs[0]) > 1 and all(relative_error(batch[1:2], batch[:1]) < MOST for batch in outputs):
        raise SubjectError("output-constant", "the output hardly depends on the input with these weights.")


def _worst(found: Sequence[Batch], reference: Sequence[Batch]) -> float:
    return max(relative_error(mine, theirs) for mine, theirs in zip(found, reference, strict=True))


def _largest_difference(a: Sequence[Batch], b: Sequence[Batch]) -> float | None:
    found = [
        float(np.abs(left.reshape(-1) - right.reshape(-1)).max())
        for batch_a, batch_b in zip(a, b, strict=True)
        for left, right in zip(batch_a, batch_b, strict=True)
        if left.size == right.size
    ]
    return max(found) if found and math.isfinite(max(found)) else None


def _why_not(found: dict[str, Any], *, same: bool) -> str:
    if same:
        return "the outputs agree, but aligned nodes inside do not: see first_divergence."
    return (
        f"with the same weights the outputs differ by {found['effect']['relative']:.1e} of their scale; "
        f"float32 rounding explains {found['tolerance']:.1e}."
    )


def _divergence(pair: tuple[ir.Node, ir.Node], error: float) -> dict[str, Any]:
    sides = {
        side: {"node": node.metadata_props.get(rw.SOURCE, node.name or ""), "op": node.op_type}
        for side, node in zip("ab", pair, strict=True)
    }
    return sides | {"error": error if math.isfinite(error) else None}
