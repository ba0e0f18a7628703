"""Input contracts as data: compared, overridden field by field, and put into words. Pure.

A contract is the JSON that the engine's ``Contract.to_json`` writes: everything done to a picture before the network
sees it.
"""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Any

from app.domain.policies import Dimension
from app.domain.verdicts import Finding, Place, Severity

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = "source"
"""The field that says where a contract was read, not what it does."""

_PER_CHANNEL = ("mean", "std", "fill")
_CHANNELS = {"rgb": 3, "bgr": 3, "grey": 1}
_PAIR = 2
_BYTE = 255


class InvalidContractError(ValueError):
    """Overridden fields that are no part of a contract; the message says what they may be."""


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == _PAIR and all(map(_is_side, value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and len(value) in _CHANNELS.values() and all(map(_is_number, value))


def _is_colour(value: object) -> bool:
    return _are_numbers(value) and all(isinstance(each, int) and 0 <= each <= _BYTE for each in value)  # type: ignore[attr-defined]


def _one_of(*words: str) -> tuple[Callable[[object], bool], str]:
    return (lambda value: value in words), f"one of {', '.join(words)}"


FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "height": (_is_side, "a whole number of pixels"),
    "width": (_is_side, "a whole number of pixels"),
    "resize": (
        lambda value: value is None or _is_side(value) or _is_pair(value),
        "pixels of the shorter side, [height, width], or null",
    ),
    "fit": _one_of("stretch", "cover", "contain"),
    "interpolation": _one_of("nearest", "bilinear", "bicubic", "lanczos"),
    "antialias": (lambda value: isinstance(value, bool), "true or false"),
    "crop": (lambda value: value is None or _is_pair(value), "[height, width] or null"),
    "crop_offset": _one_of("round", "floor"),
    "fill": (_is_colour, "whole numbers from 0 to 255, one a channel"),
    "colour": _one_of(*_CHANNELS),
    "scale": (lambda value: _is_number(value) and value != 0, "a number other than 0"),
    "mean": (_are_numbers, "numbers, one a channel"),
    "std": (lambda value: _are_numbers(value) and 0 not in value, "numbers other than 0, one a channel"),  # type: ignore[operator]
    "layout": _one_of("nchw", "nhwc"),
}
"""What may be overridden: each field's check, and what it may be, in the order in which a picture meets them."""


def check(fields: dict[str, Any]) -> dict[str, Any]:
    """Return overridden fields as they are; raises InvalidContractError for the first that is none or has no sense."""
    if not fields:
        raise InvalidContractError(f"A contract is overridden by its fields: {', '.join(FIELDS)}; name one.")
    for name, value in fields.items():
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; its fields are {', '.join(FIELDS)}."
            raise InvalidContractError(f"A contract has no field {name!r}{hint}")
        fits, words = FIELDS[name]
        if not fits(value):
            raise InvalidContractError(f"{name} of a contract is {value!r}; it must be {words}.")
    return fields


def overridden(contract: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Return a contract with some fields replaced; the ``source`` says which.

    Another number of channels takes the plain mean, std and fill unless they are given too. Raises InvalidContractError
    when the number of values does not fit the channels.
    """
    merged = contract | fields
    channels = _CHANNELS[merged["colour"]]
    for name in _PER_CHANNEL:
        if name not in fields and len(merged.get(name) or ()) != channels:
            merged[name] = []
        if merged[name] and len(merged[name]) != channels:
            raise InvalidContractError(
                f"{name} of a contract has {len(merged[name])} values, but {merged['colour']} pictures have {channels} "
                "channels; give one value a channel."
            )
    return merged | {SOURCE: f"{contract.get(SOURCE, '')}; overridden: {', '.join(fields)}"}


def compare(a: dict[str, Any] | None, b: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return ``{"differences": [{"field", "a", "b"}, ...]}`` in the contract's order; None when one is not known.

    No differences mean that both networks receive the same input, but for its source.
    """
    if a is None or b is None:
        return None
    names = [name for name in (*FIELDS, "dtype") if a.get(name) != b.get(name)]
    return {"differences": [{"field": name, "a": a.get(name), "b": b.get(name)} for name in names]}


def findings(block: dict[str, Any] | None) -> list[Finding]:
    """Return the finding that the two sides' pictures are prepared alike or not, beside a measured accuracy."""
    if block is None:
        return []
    where = Place.OUTSIDE if block["differences"] else Place.INSIDE
    return [
        Finding(Dimension.ACCURACY, "contract", None, None, None, None, None, where, Severity.ADVISORY, dict(block))
    ]


def steps(contract: dict[str, Any]) -> list[dict[str, str]]:
    """Return what is done to a picture, in order, as ``{"step", "what"}``: enough for a person to do the same."""
    grey = contract["colour"] == "grey"
    found = [("decode", "8-bit " + ("grey (ITU-R 601 luma)" if grey else "RGB") + "; alpha and EXIF rotation ignored")]
    if contract["resize"] is not None:
        found.append(("resize", _resize(contract)))
    if contract["crop"] is not None:
        height, width = contract["crop"]
        offset = {"round": "rounded half to even", "floor": "rounded down"}[contract.get("crop_offset", "round")]
        fill = contract.get("fill") or [0]
        found.append(
            ("crop", f"{height} x {width} from the centre, offset {offset}; a shorter side is padded with {fill}")
        )
    if contract["colour"] == "bgr":
        found.append(("colour order", "RGB becomes BGR"))
    found.append(("scale", f"float32, times {_fraction(contract['scale'])}"))
    found.append(("normalise", f"minus {contract['mean']}, then divided by {contract['std']}"))
    axes = "channels, height, width" if contract["layout"] == "nchw" else "height, width, channels"
    found.append(("layout", f"{axes}: {_CHANNELS[contract['colour']]} x {contract['height']} x {contract['width']}"))
    return [{"step": step, "what": what} for step, what in found]


def _resize(contract: dict[str, Any]) -> str:
    size = contract["resize"]
    if isinstance(size, int):
        to = f"the shorter side to {size}, the longer one in proportion, truncated"
    else:
        how = {
            "stretch": "whatever its aspect ratio",
            "cover": "keeping the aspect ratio, no side shorter",
            "contain": "keeping the aspect ratio, no side longer",
        }[contract.get("fit", "stretch")]
        to = f"to {size[0]} x {size[1]}, {how}"
    antialias = contract["antialias"] and contract["interpolation"] != "nearest"
    return f"{to}; {contract['interpolation']}{', antialiased' if antialias else ''}, rounded to whole values"


def _fraction(scale: float) -> str:
    divisor = round(1 / scale, 1)
    return f"1/{divisor:g}" if divisor and 1 / divisor == scale else f"{scale:g}"
