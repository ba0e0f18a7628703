"""The engine's operations, one file each: ``run(request, scratch, progress) -> Result``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.engine.protocol import Result

_MODULES = {
    "catalog": "catalog",
    "fetch": "fetch",
    "inspect": "inspecting",
    "structure": "structure",
    "import": "importing",
    "predict": "predict",
    "shard": "shard",
    "merge": "merge",
    "latency": "timing",
    "compare": "compare",
    "compare_many": "comparing_many",
}


def find(name: str) -> Callable[..., Result]:
    """Return an operation's function; raises UsageError when there is none of that name."""
    if name not in _MODULES:
        raise UsageError("unknown-operation", f"The engine has no operation {name!r}; it has {', '.join(_MODULES)}.")
    run: Any = importlib.import_module(f"{__name__}.{_MODULES[name]}").run
    return run
