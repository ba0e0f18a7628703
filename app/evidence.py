"""What an architecture verdict rests on, each in one line for people."""

from __future__ import annotations

from typing import Any


def proof(value: dict[str, Any]) -> str | None:
    """Return one line on how sameness was proven or refuted; None when the models were not run."""
    if not value.get("ran") or value.get("error_float32") is None:
        return None
    errors = value["error_float32"]
    line = (
        f"with the same weights, on {value['inputs']} random inputs: float32 error of A {errors['a']:.1e}, of B "
        f"{errors['b']:.1e} (at most {value['tolerance']:.1e} allowed); in float64 {value['error_float64']:.1e} apart"
    )
    first = value.get("first_divergence")
    return f"{line}; first at {first['a']['node']} / {first['b']['node']}" if first else line


def input_sizes(value: dict[str, Any]) -> str | None:
    """Return one line that names the only input size at which two models are alike; None when they are at others too.

    ``value`` is ``input_sizes`` of an architecture comparison; comparisons stored before it existed have none.
    """
    if not value.get("holds_only_there"):
        return None
    sizes = ["x".join(map(str, value["compared_at"][side])) for side in ("a", "b")]
    return f"holds at input {' and '.join(dict.fromkeys(sizes))} only: {'; '.join(value['because'])}"
