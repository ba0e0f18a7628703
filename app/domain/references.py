"""References: how a person writes a listing, ``zoo:name[@weights]`` or ``file:PATH``."""

from __future__ import annotations

import re
from dataclasses import dataclass

FILE = "file"

UPLOAD = "upload"
"""Zoo of uploaded files; each is named by the SHA-256 of its bytes."""

RECORDED = "recorded"
"""Zoo of models that no zoo here has: only their imported predictions are known."""

NO_WEIGHTS = "none"
"""Weights tag that builds an architecture with random weights."""

UNTRAINED = frozenset({NO_WEIGHTS, "placeholder"})
"""Weights tags behind which nothing was trained; the second is that of the graphs inside the onnx package."""

_ZOO = re.compile(r"[a-z][a-z0-9_-]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+/-]*")
_WEIGHTS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


class MalformedReferenceError(ValueError):
    """A reference that cannot be read; the message says what a reference looks like."""


@dataclass(frozen=True)
class Reference:
    """A listing as a person names it; ``weights=None`` means the zoo's default tag."""

    zoo: str
    name: str
    weights: str | None = None

    def __str__(self) -> str:
        """Return the reference in the form that ``parse`` reads."""
        return f"{self.zoo}:{self.name}" + (f"@{self.weights}" if self.weights else "")


def parse(text: str) -> Reference:
    """Read ``zoo:name[@weights]`` or ``file:PATH``; raises MalformedReferenceError."""
    advice = (
        "Write zoo:name or zoo:name@weights, e.g. torchvision:resnet50@IMAGENET1K_V2, timm:resnet50@none, "
        "file:PATH for an ONNX file, or upload:SHA256 for an uploaded one."
    )
    zoo, colon, rest = text.strip().partition(":")
    if not colon or not _ZOO.fullmatch(zoo):
        raise MalformedReferenceError(f"{text!r} is no reference: it does not begin with a zoo and a colon. {advice}")
    if zoo == FILE:
        if not rest or "\0" in rest:
            raise MalformedReferenceError(f"{text!r} is no reference: it names no file. {advice}")
        return Reference(FILE, rest)
    name, at, weights = rest.partition("@")
    if not _NAME.fullmatch(name):
        raise MalformedReferenceError(f"{text!r} is no reference: {name!r} is no model name. {advice}")
    if at and not _WEIGHTS.fullmatch(weights):
        raise MalformedReferenceError(f"{text!r} is no reference: {weights!r} is no weights tag. {advice}")
    return Reference(zoo, name, weights or None)
