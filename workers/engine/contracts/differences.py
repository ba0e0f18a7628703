"""Two input contracts side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.engine.contracts.contract import Contract


def differences(a: Contract, b: Contract) -> list[dict[str, Any]]:
    """List the fields in which two contracts differ, as ``{"field", "a", "b"}`` in the contract's field order.

    ``source`` is left out: it says where a contract was read, not what it does. An empty list means that both
    networks receive the same input.
    """
    left, right = a.to_json(), b.to_json()
    return [
        {"field": name, "a": value, "b": right[name]}
        for name, value in left.items()
        if name != "source" and value != right[name]
    ]
