"""Nodes and differences in a few words, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.engine.graph.canonical import INPUT, NUMERIC

if TYPE_CHECKING:
    from workers.engine.graph.canonical import Node

_HIDDEN = {*NUMERIC, "index", "constant_operand", "bias"}
"""Attributes that say little about a layer; where they differ, the difference says so."""

_LONGEST_LIST = 6

_SINGULAR = {"strides": "stride", "dilations": "dilation", "pads": "padding"}

_SIZES = {"kernel_shape", "strides", "dilations", "shape"}
"""Attributes whose numbers are joined by ``×``; in others they are positions or amounts, joined by commas."""

_DEFAULTS = {"strides": 1, "dilations": 1, "pads": 0, "group": 1, "ceil_mode": 0, "count_include_pad": 0}

_NAMES = {"output_channels": "{} channels", "output_features": "{} features", "group": "{} groups"}


def node_text(node: Node) -> str:
    """Say what a node computes, without its name: ``Conv 3×3, 64 channels, stride 2, padding 1``."""
    if node.op == INPUT:
        return f"Input {shape_text(node.shape)}"
    attributes = dict(node.attributes)
    bias = attributes.get("bias")
    if not isinstance(bias, bool | None):  # LRN's is a number of its function
        attributes["offset"] = bias
    window = value_text(attributes.pop("kernel_shape"), "kernel_shape") if "kernel_shape" in attributes else ""
    order: list[str] = [
        name for name in ("output_channels", "output_features", "strides", "pads") if name in attributes
    ]
    order += [name for name in attributes if name not in order]
    said = [_attribute(name, attributes[name]) for name in order if not _is_plain(name, attributes[name])]
    return f"{node.op} {', '.join(filter(None, [window, *said]))}".strip()


def _is_plain(name: str, value: Any) -> bool:
    if name in _HIDDEN:
        return True
    default = _DEFAULTS.get(name)
    return default is not None and all(item == default for item in (value if isinstance(value, list) else [value]))


def _attribute(name: str, value: Any) -> str:
    alike = isinstance(value, list) and len(set(map(repr, value))) == 1
    text = value_text(value[0] if alike and name in _SINGULAR else value, name)
    return _NAMES[name].format(text) if name in _NAMES else f"{_SINGULAR.get(name, name.replace('_', ' '))} {text}"


def shape_text(shape: tuple[int, ...]) -> str:
    """Write a shape without the batch: ``64×55×55``."""
    return "×".join(map(str, shape[1:])) or "scalar"


def value_text(value: Any, name: str | None = None) -> str:
    """Write one value of the difference list, of the attribute ``name``: ``3×3``, ``1e-05``, ``yes``."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(_attribute(key, item) for key, item in value.items() if not _is_plain(key, item))
    if isinstance(value, list | tuple):
        if name == "pads" and len(set(value)) == 1:
            return str(value[0])
        shown = [value_text(item, name) for item in value[:_LONGEST_LIST]]
        more = ["…"] if len(value) > _LONGEST_LIST else []
        return ("×" if name in _SIZES else ",").join([*shown, *more]) or "nothing"
    return f"{value:g}" if isinstance(value, float) else printable(str(value))


def difference_text(item: dict[str, Any]) -> str:
    """Say a difference of the list in a few words: ``strides 1×1 → 2×2``."""
    a, b = item["a"], item["b"]
    if a is None or b is None:
        only, run = (a or b), item.get("run", ())
        more = f" and {len(run) - 1} more layer{'s' if len(run) > 2 else ''}" if len(run) > 1 else ""  # noqa: PLR2004
        return f"{only['op']}{more} only in {'A' if b is None else 'B'}"
    if item["kind"] == "operator":
        return f"{a['op']} → {b['op']}"
    name = item["attribute"] or item["kind"]
    if item["kind"] == "rewired":
        name = "reads" if item["attribute"] is None else name
    return f"{name.replace('_', ' ')} {value_text(a['value'], name)} → {value_text(b['value'], name)}"


def printable(text: str) -> str:
    """Replace control and format characters: names come from strangers' files."""
    return "".join(character if character.isprintable() else "�" for character in text)
