"""How a number that is not finite is written in JSON, which has no word for it."""

from __future__ import annotations

import math
from typing import Any


def finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value, and not yet one
    """Replace every float that is not finite by ``{"value": null, "kind": "nan" | "+inf" | "-inf"}``, recursively."""
    if isinstance(value, float) and not math.isfinite(value):
        kind = "nan" if math.isnan(value) else ("+inf" if value > 0 else "-inf")
        return {"value": None, "kind": kind}
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


_WORDS = {"nan": math.nan, "+inf": math.inf, "-inf": -math.inf}


def restored(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return what ``finite`` was given."""
    if isinstance(value, dict):
        if value.keys() == {"value", "kind"} and value["value"] is None and value["kind"] in _WORDS:
            return _WORDS[value["kind"]]
        return {key: restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [restored(item) for item in value]
    return value
