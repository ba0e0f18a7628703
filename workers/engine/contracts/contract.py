"""An input contract: everything done to a picture before the network sees it, as data."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Fit = Literal["stretch", "cover", "contain"]
Offset = Literal["round", "floor"]
Colour = Literal["rgb", "bgr", "grey"]
Layout = Literal["nchw", "nhwc"]

_WORDS: dict[str, tuple[str, ...]] = {
    "interpolation": get_args(Interpolation),
    "fit": get_args(Fit),
    "crop_offset": get_args(Offset),
    "colour": get_args(Colour),
    "layout": get_args(Layout),
    "dtype": ("float32",),
}
_BYTE = 255


@dataclass(frozen=True)
class Contract:
    """How a picture becomes the network's input, in the order of the fields.

    ``resize`` scales the shorter side (int), or to (height, width) as ``fit`` says: ``stretch`` to exactly that,
    ``cover`` keeps the aspect ratio and leaves no side shorter, ``contain`` leaves none longer. ``crop`` cuts (height,
    width) from the centre, at half the difference, rounded half to even or down (``crop_offset``); what is too small is
    padded first with ``fill``, in RGB order, 0-255. Then the pixel values 0-255 are multiplied by ``scale``, and each
    channel, in ``colour`` order, becomes ``(value - mean) / std``. ``height`` and ``width`` are what the network
    receives. ``mean``, ``std`` and ``fill`` have one value a channel; empty ones are zeros, ones and black.

    Raises ValueError when the fields do not fit together.
    """

    height: int
    width: int
    resize: int | tuple[int, int] | None = None
    fit: Fit = "stretch"
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    crop: tuple[int, int] | None = None
    crop_offset: Offset = "round"
    fill: tuple[int, ...] = ()
    colour: Colour = "rgb"
    scale: float = 1 / 255
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Layout = "nchw"
    dtype: Literal["float32"] = "float32"
    source: str = ""
    """Where this was read: the zoo's own object or document. Not part of the digest."""

    def __post_init__(self) -> None:
        """Check the fields, and give each channel its mean, its std and its fill."""
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it is one of {', '.join(words)}")
        self._check_sizes()
        for name, plain in (("mean", 0.0), ("std", 1.0), ("fill", 0)):
            value = getattr(self, name)
            # One value for three channels, or three for one, would be broadcast without a word.
            if value and len(value) != self.channels:
                raise ValueError(f"{name} has {len(value)} values, but {self.colour} pictures have {self.channels}")
            object.__setattr__(self, name, tuple(value) or (plain,) * self.channels)
        if not all(math.isfinite(value) for value in (self.scale, *self.mean, *self.std)) or 0 in (
            self.scale,
            *self.std,
        ):
            raise ValueError("scale and std must be finite and not zero, mean finite")
        if not all(isinstance(value, int) and 0 <= value <= _BYTE for value in self.fill):
            raise ValueError(f"fill is {list(self.fill)}; its values are whole, 0 to {_BYTE}")

    def _check_sizes(self) -> None:
        sizes = {"height": self.height, "width": self.width}
        for name, value in (("resize", self.resize), ("crop", self.crop)):
            if (isinstance(value, tuple) and len(value) != 2) or (name == "crop" and isinstance(value, int)):  # noqa: PLR2004
                raise ValueError(f"{name} is {value}; it is [height, width]")
            for index, side in enumerate(value if isinstance(value, tuple) else (value,)):
                if side is not None:
                    sizes[f"{name}[{index}]"] = side
        for name, side in sizes.items():
            if not isinstance(side, int) or isinstance(side, bool) or side < 1:
                raise ValueError(f"{name} is {side!r}; it is a whole number of pixels, at least 1")
        if self.fit != "stretch" and not isinstance(self.resize, tuple):
            raise ValueError(f"fit is {self.fit!r}, which needs a resize to [height, width]")

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
        """Build a contract from ``to_json``'s form; raises TypeError for unknown fields, ValueError for misfits."""
        lists: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
        return cls(**lists)

    def digest(self) -> str:
        """SHA-256 of everything that changes the network's input."""
        fields = self.to_json()
        del fields["source"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
