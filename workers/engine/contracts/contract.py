"""An input contract: everything done to a picture before the network sees it, as data."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Contract:
    """How a picture becomes the network's input, in the order of the fields.

    ``resize`` scales the shorter side (int) or to (height, width); ``crop`` cuts (height, width) from the centre;
    pixel values 0-255 are then multiplied by ``scale``, and each channel, in ``colour`` order, becomes
    ``(value - mean) / std``. ``height`` and ``width`` are what the network receives.
    """

    height: int
    width: int
    resize: int | tuple[int, int] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    antialias: bool = True
    crop: tuple[int, int] | None = None
    colour: Literal["rgb", "bgr", "grey"] = "rgb"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    layout: Literal["nchw", "nhwc"] = "nchw"
    dtype: Literal["float32"] = "float32"
    source: str = ""
    """Where this was read: the zoo's own object or document. Not part of the digest."""

    @property
    def channels(self) -> int:
        """Number of colour channels."""
        return 1 if self.colour == "grey" else 3

    def input_shape(self, batch: int = 1) -> tuple[int, int, int, int]:
        """Shape of the network's input for ``batch`` pictures, in this contract's layout."""
        if self.layout == "nchw":
            return (batch, self.channels, self.height, self.width)
        return (batch, self.height, self.width, self.channels)

    def to_json(self) -> dict[str, Any]:
        """Return this contract as JSON; tuples become lists."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Contract:
        """Build a contract from ``to_json``'s form; raises TypeError for unknown fields."""
        lists: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
        return cls(**lists)

    def digest(self) -> str:
        """SHA-256 of everything that changes the network's input."""
        fields = self.to_json()
        del fields["source"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
