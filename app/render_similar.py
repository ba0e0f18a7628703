"""What people read of fingerprints in a terminal: indexes of zoos, and the nearest architectures of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from app.render import count
from app.terminal import empty_table

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_TAGS = 3


def indexes(found: Sequence[dict[str, Any]]) -> Group:
    """Return indexes of zoos as a table, and what could not be fingerprinted with the reason."""
    listed = empty_table("Fingerprints", "zoo", "listings>r", "fingerprinted>r", "different structures>r", "failed>r")
    for each in found:
        listed.add_row(each["zoo"], *(count(each[name]) for name in ("listings", "indexed", "structures", "failed")))
    parts: list[RenderableType] = [listed]
    # Weights tags of one architecture fail together.
    failures = {item["built"]: item["error"] for each in found for item in each["not_indexed"]}
    if failures:
        reasons = empty_table(
            f"{len(failures)} architectures could not be fingerprinted", "model", "reason", "what happened"
        )
        for built, error in failures.items():
            reasons.add_row(built, error["code"], error["message"])
        parts.append(reasons)
    return Group(*parts)


def similar(found: dict[str, Any]) -> Group:
    """Return the nearest architectures of a model as tables."""
    searched = found["searched"]
    zoos = ", ".join(searched["zoos"]) or "no zoo"
    parts: list[RenderableType] = [
        Text.assemble((found["ref"], "bold"), f"   fingerprint {found['fingerprint'][:12]}"),
        Text(f"searched {searched['structures']:,} structures of {zoos}; `zooaudit index --zoo Z` adds a zoo", "dim"),
    ]
    if found["items"]:
        parts += ["", _models("Nearest architectures", found["items"])]
    if found["namesakes"]:
        title = f"Also called {found['architecture']}, with another structure"
        parts += ["", _models(title, found["namesakes"])]
    return Group(*parts)


def _models(title: str, models: Sequence[dict[str, Any]]) -> RenderableType:
    listed = empty_table(title, "model", "architecture key", "similarity>r", "structure", "weights tags")
    for model in models:
        same = model["same_structure"]
        more = len(model["weights"]) - _MOST_TAGS
        tags = ", ".join(model["weights"][:_MOST_TAGS]) + (f" and {more} more" if more > 0 else "")
        listed.add_row(
            f"{model['zoo']}:{model['name']}",
            model["architecture"] or "-",
            f"{model['similarity']:.3f}",
            Text("same" if same else "another", style="green" if same else "yellow"),
            tags,
        )
    return listed
