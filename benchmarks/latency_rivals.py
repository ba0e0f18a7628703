"""How other tools time a model, from their documents: one model after the other, each in a process of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import ttest_ind

from workers.engine.latency import runners
from workers.engine.latency.points import OperatingPoint
from workers.engine.latency.process import Limits, run_forked

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.engine.latency.points import Entry

TIMM_WARM_UPS = 10
TIMM_ITERATIONS = 40
"""Of timm's ``benchmark.py``: ``--num-warm-iter`` and ``--num-bench-iter``; it reports the mean of the steps."""

ALPHA = 0.05


def timm_mean(call: Callable[[], Any]) -> list[float]:
    """Return the seconds of each of timm's timed steps."""
    for _ in range(TIMM_WARM_UPS):
        call()
    return [_seconds(call) for _ in range(TIMM_ITERATIONS)]


def perf_test(call: Callable[[], Any], duration_s: float) -> list[float]:
    """Return the seconds of each run of onnxruntime_perf_test's mode ``duration``: one warm-up, then runs until then.

    Its report is their mean. The default duration is 600 s; here it is what our session took for this listing.
    """
    call()
    end = time.perf_counter() + duration_s
    found = [_seconds(call)]
    while time.perf_counter() < end:
        found.append(_seconds(call))
    return found


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def sequential(
    first: Entry, second: Entry, runtime: str, measure: Callable[[Callable[[], Any]], list[float]]
) -> tuple[float, bool]:
    """Time one listing, then the other; return the log-ratio of the means, and whether a t-test tells them apart.

    The test is Welch's on single iterations at 5 %, as somebody who has these two samples would make it.
    """
    point, times = OperatingPoint(runtime), []
    for entry in (first, second):

        def body(_send: Callable[[dict[str, Any]], None], entry: Entry = entry) -> dict[str, Any]:
            return {"times": measure(runners.load(entry, point).call(point, 0))}

        outcome = run_forked(body, Limits(600, 600))
        if outcome.result is None:
            raise RuntimeError(f"{entry.ref} on {runtime}: {outcome.reason}")
        times.append(np.array(outcome.result["times"]))
    a, b = times
    return float(np.log(a.mean() / b.mean())), bool(ttest_ind(a, b, equal_var=False).pvalue < ALPHA)
