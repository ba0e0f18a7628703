"""Subjects of requests: a listing as the service names it, opened through its zoo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.protocol import UsageError
from workers.engine.zoos.registry import open_zoo

if TYPE_CHECKING:
    from workers.engine.zoos.base import Listing, Model, Zoo


def open_subject(subject: dict[str, Any]) -> tuple[Zoo, Listing]:
    """Return the zoo and the listing of ``{"ref", "zoo", "name", "weights", "folder"}``.

    Raises UsageError for names that do not exist.
    """
    folder = Path(subject["folder"]) if subject.get("folder") else None
    zoo = open_zoo(subject["zoo"], folder)
    return zoo, zoo.describe(subject["name"], subject["weights"])


def load(subject: dict[str, Any]) -> Model:
    """Load a subject from its zoo's cache, without network."""
    zoo, listing = open_subject(subject)
    return zoo.load(listing)


def module_of(subject: dict[str, Any]) -> Any:
    """Load a subject as a ``torch.nn.Module``; raises UsageError when its zoo publishes a file instead."""
    model = load(subject)
    if model.module is None:
        raise UsageError("no-module", f"{subject['ref']} is an ONNX file; torch cannot run it, onnxruntime can.")
    return model.module
