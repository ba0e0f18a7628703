"""The zoos that ship with the project, as data. The adapters themselves live in the engine."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.references import FILE, RECORDED, UPLOAD
from app.domain.teams import SHARED


@dataclass(frozen=True)
class Zoo:
    """A zoo as the service knows it.

    ``environment`` names the interpreter that its adapter runs in. ``folder`` is set for a team's own zoo. The content
    behind a reference of a ``mutable`` zoo may change at any time, so it is inspected again for every request. Whose it
    is says ``team``.
    """

    name: str
    title: str
    environment: str = "torch"
    folder: str | None = None
    mutable: bool = False
    team: str = SHARED


SHIPPED: dict[str, Zoo] = {
    zoo.name: zoo
    for zoo in (
        Zoo("torchvision", "torchvision (PyTorch)"),
        Zoo("timm", "timm (PyTorch Image Models)"),
        Zoo("keras", "Keras Applications"),
        Zoo("onnx", "ONNX Model Zoo"),
    )
}

BARE_FILE = Zoo(FILE, "a bare ONNX file", mutable=True)
UPLOADED = Zoo(UPLOAD, "uploaded files")
IMPORTED = Zoo(RECORDED, "imported predictions of models that no zoo here has")

NAMED_BY_REFERENCES = {zoo.name: zoo for zoo in (BARE_FILE, UPLOADED, IMPORTED)}
"""Zoos without a catalog: what a reference names there is all there is."""
