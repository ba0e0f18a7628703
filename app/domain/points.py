"""Operating points: how they are written on the command line and over REST, and which of them mean nothing."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_WORDS: dict[str, tuple[str, ...]] = {
    "runtime": ("onnxruntime", "torch", "torch-compile", "native"),
    "device": ("cpu", "cuda"),
    "precision": ("float32", "tf32", "float16", "bfloat16"),
    "layout": ("channels_first", "channels_last"),
    "graph_optimization": ("all", "extended", "basic", "none"),
    "boundary": ("device", "host", "end_to_end"),
}
_NUMBERS = ("batch", "threads")
_TORCH = ("torch", "torch-compile")

MOST = 16
"""Operating points in one request."""


class InvalidPointError(ValueError):
    """An operating point that means nothing; the message is a sentence that says why."""


@dataclass(frozen=True)
class OperatingPoint:
    """Where latency is measured.

    ``runtime`` ``native`` is, for each listing, what its zoo ships: torch for torch and Keras models, onnxruntime for
    files. ``layout`` belongs to torch, ``graph_optimization`` to onnxruntime; None takes their default
    (``channels_first``, ``all``). The engine's ``OperatingPoint`` says what the boundaries are.
    """

    runtime: str
    batch: int = 1
    threads: int = 1
    device: str = "cpu"
    precision: str = "float32"
    layout: str | None = None
    graph_optimization: str | None = None
    boundary: str = "host"

    def to_json(self) -> dict[str, Any]:
        """Return this point as JSON."""
        return dict(vars(self))


DEFAULT = (OperatingPoint("onnxruntime"), OperatingPoint("native"))
"""One runtime that all listings share, and each zoo's own. Where all zoos ship the former, it is measured once."""

_NAMES = tuple(field.name for field in fields(OperatingPoint))


def parse(text: str) -> dict[str, Any]:
    """Read ``key=value,key=value`` of the command line as ``read`` takes it; raises InvalidPointError."""
    value: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, word = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not word:
            raise InvalidPointError(
                f"{text!r} is no operating point; write it as runtime=torch,batch=8, with any of {', '.join(_NAMES)}."
            )
        if name in value:
            raise InvalidPointError(f"{text!r} names {name} twice; name it once.")
        value[name] = _number(word) if name in _NUMBERS else word
    return value


def _number(word: str) -> int | str:
    try:
        return int(word)
    except ValueError:
        return word


def read(value: Mapping[str, Any]) -> OperatingPoint:
    """Read one operating point; fields that are left out, or None, have their defaults. Raises InvalidPointError."""
    given = {name: word for name, word in value.items() if word is not None}
    for name, word in given.items():
        if name not in _NAMES:
            raise InvalidPointError(f"An operating point has no {name!r}{_near(name)}")
        if name in _NUMBERS:
            _check_number(name, word)
        elif word not in _WORDS[name]:
            raise InvalidPointError(f"There is no {name} {word!r}; choose from {', '.join(_WORDS[name])}.")
    if "runtime" not in given:
        raise InvalidPointError(f"An operating point needs a runtime: {', '.join(_WORDS['runtime'])}.")
    point = OperatingPoint(**given)
    _check_sense(point)
    return point


def read_all(values: Iterable[Mapping[str, Any]]) -> tuple[OperatingPoint, ...]:
    """Read the operating points of a request, each once; raises InvalidPointError."""
    points = tuple(dict.fromkeys(read(value) for value in values))
    if len(points) > MOST:
        raise InvalidPointError(f"{len(points)} operating points share one budget; ask for at most {MOST} at once.")
    return points


def _check_number(name: str, value: Any) -> None:  # noqa: ANN401 - any JSON value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidPointError(f"{name} is {value!r}; it is a whole number, at least 1.")


def _check_sense(point: OperatingPoint) -> None:
    """Refuse fields that contradict each other."""
    if point.layout is not None and point.runtime not in _TORCH:
        raise InvalidPointError(
            f"layout is torch's memory format, and {point.runtime} has none to choose; take it out, or choose the "
            "runtime torch."
        )
    if point.graph_optimization is not None and point.runtime != "onnxruntime":
        raise InvalidPointError(
            f"graph_optimization is a level of onnxruntime, not of {point.runtime}; take it out, or choose the runtime "
            "onnxruntime."
        )
    if point.precision in {"float16", "bfloat16"} and point.runtime not in _TORCH:
        raise InvalidPointError(
            f"onnxruntime runs a file in the precision that it holds, so {point.precision} cannot be asked of "
            f"{point.runtime}; choose the runtime torch, or compare a file that was saved in {point.precision}."
        )
    if point.precision == "tf32" and point.device == "cpu":
        raise InvalidPointError("tf32 is a mode of NVIDIA GPUs; choose the device cuda or another precision.")
    if point.boundary == "device" and point.device == "cpu":
        raise InvalidPointError(
            "The boundary device leaves out the way to a device's memory and back, which the CPU does not have; choose "
            "the boundary host."
        )


def _near(name: str) -> str:
    """Return the advice on a field that does not exist."""
    near = difflib.get_close_matches(name, _NAMES, n=1)
    return f". Did you mean {near[0]}?" if near else f"; choose from {', '.join(_NAMES)}."
