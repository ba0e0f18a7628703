"""Whether a difference of times is one of the models: it must hold in what the work costs too. Pure."""

from __future__ import annotations

import math
from typing import Any


def doubt(point: dict[str, Any], word: str, margin: float) -> str | None:
    """Say why the verdict ``word`` that an operating point's times give is not believed; None when it is.

    The cost is a GPU's clock cycles (time x clock), and on a processor the CPU time of one thread; several threads may
    share equal work unequally well, which is a difference that users feel. ``a_faster`` and ``b_faster`` hold when the
    cost's 95 % interval excludes 1 on the same side; ``same`` does unless that lies outside the margin. Without that
    interval there is nothing to doubt by.
    """
    on_device = point["device"] != "cpu"
    interval = point.get("cycles_ci95") if on_device else point.get("cpu_ci95")
    if interval is None or (not on_device and point["threads"] != 1):
        return None
    low, high = interval
    bound = math.log1p(margin)
    holds = {
        "b_faster": low > 1,
        "a_faster": high < 1,
        "same": math.log(low) <= bound and math.log(high) >= -bound,
    }
    if holds.get(word, True):
        return None
    cost = "clock cycles" if on_device else "CPU time"
    return (
        f"time and {cost} disagree (A / B in {cost}: {low:.3f} to {high:.3f}), so that something else than the models "
        f"made the difference; measure again on a quieter {'device' if on_device else 'machine'}"
    )
