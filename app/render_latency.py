"""What people read of latency in a terminal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rich.text import Text

from app.domain.latency import special
from app.terminal import SIDES, both, empty_table, interval, milliseconds, word

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType
    from rich.table import Table

_PERCENTILES = ("p90", "p99")
_MIB = 2**20
_LONG_MS = 1000.0


def comparison(block: dict[str, Any]) -> list[RenderableType]:
    """Return a comparison's latency: one table, and below it what keeps points from a verdict and what else is told."""
    points = block["operating_points"]
    shown = [name for name in _PERCENTILES if any(point[side].get(f"{name}_ms") for point in points for side in "ab")]
    table = empty_table(
        "Latency, A above B; ratios are time of A over time of B, with 95 % intervals",
        "operating point",
        "median ms>r",
        *(f"{name} ≤>r" for name in shown),
        "A / B>r",
        "control>r",
        "verdict",
    )
    for point in points:
        control = point.get("control") or {}
        table.add_row(
            "\n".join(operating_point(point)),
            *(both(*(milliseconds(point[side].get(f"{name}_ms")) for side in "ab")) for name in ("median", *shown)),
            _ratio(point),
            _ratio(control),
            word(point["verdict"]),
        )
    told = [line for point in points for line in _told(point)]
    told += [
        _line(each["operating_point"], f"not measured: {each['reason']}") for each in block.get("not_measured", ())
    ]
    return [table, *_machine(block["machine"]), *told, Text.assemble("verdict: ", word(block["verdict"]))]


def _machine(facts: dict[str, Any]) -> list[Text]:
    """Return a line on where times were measured, as they hold there; none for what was stored without."""
    return [_line(f"machine {facts['short']}", facts["line"])] if "short" in facts else []


def operating_point(point: dict[str, Any]) -> list[str]:
    """Return an operating point as people say it, in lines: its runtime, where it runs, and what is not the default."""
    lines = [_runtime(point)]
    lines.append(f"{point['device']}, batch {point['batch']}, {point['threads']} thread{'s' * (point['threads'] != 1)}")
    rest = special(point)
    return [*lines, ", ".join(rest)] if rest else lines


def _runtime(point: dict[str, Any]) -> str:
    """Return the runtime; a native one with what it is for each side."""
    if point["runtime"] != "native":
        return str(point["runtime"])
    frameworks = dict.fromkeys(point[side]["framework"] for side in ("a", "b"))
    return f"native: {' | '.join(frameworks)}"


def _ratio(value: dict[str, Any]) -> str:
    """Return a ratio above its interval."""
    ratio = value.get("ratio")
    return "-" if ratio is None else both(f"{ratio:.3f}", interval(value.get("ci95")))


def _told(point: dict[str, Any]) -> list[Text]:
    """Return what a point's row has no room for, one line each."""
    name = ", ".join([_runtime(point), f"batch {point['batch']}", *special(point)])
    lines = []
    if point.get("undecided"):
        lines.append(_line(name, f"inconclusive: {point['undecided']}", style="yellow"))
    if (framework := point.get("framework")) and framework["ci95"] is not None:
        lines.append(_line(name, _framework(framework)))
    changing = [side.upper() for side in ("a", "b") if point[side].get("deterministic") is False]
    if changing:
        lines.append(_line(name, f"equal inputs do not give {' and '.join(changing)} equal outputs", style="yellow"))
    if costs := _costs(point):
        lines.append(_line(name, costs))
    return lines


def _framework(framework: dict[str, Any]) -> str:
    """Say what part of a ratio is the framework's and what part the model's."""
    words = {"same": "the same within the margin", "a_faster": "A's is faster", "b_faster": "B's is faster"}
    return (
        f"of this ratio {framework['model_ratio']:.3f} is the model's (on {framework['common']}) and "
        f"{framework['ratio']:.3f} ({interval(framework['ci95'])}) the framework's: "
        f"{words.get(framework['verdict'], 'inconclusive')}"
    )


def _costs(point: dict[str, Any]) -> str:
    """Return what is paid once, throughput and memory, A / B; empty where none was measured."""
    shapes: dict[str, Callable[[float], str]] = {
        "load_ms": _time,
        "compile_ms": _time,
        "first_call_ms": _time,
        "throughput": lambda value: f"{value:.3g}",
        "peak_rss_bytes": lambda value: f"{value / _MIB:.0f} MiB",
        "peak_device_bytes": lambda value: f"{value / _MIB:.0f} MiB",
        "energy_per_item_j": lambda value: f"{value:.3g} J",
    }
    names = {
        "load_ms": "load",
        "compile_ms": "compile",
        "first_call_ms": "first call",
        "throughput": "items a second",
        "peak_rss_bytes": "memory",
        "peak_device_bytes": "device memory",
        "energy_per_item_j": "energy",
    }
    parts = []
    for field, name in names.items():
        values = [point[side].get(field) for side in ("a", "b")]
        if any(value is not None for value in values):
            parts.append(f"{name} {' / '.join('-' if value is None else shapes[field](value) for value in values)}")
    return "; ".join(parts)


def _time(ms: float) -> str:
    return f"{ms / 1e3:.1f} s" if ms >= _LONG_MS else f"{milliseconds(ms)} ms"


def _line(name: str, said: str, *, style: str = "dim") -> Text:
    return Text.assemble((f"{name}: ", "bold dim"), (said, style))


def ranked(found: Sequence[dict[str, Any]], answers: dict[str, dict[str, Any]]) -> Table:
    """Return the largest latency findings of an audit as a table; a row says where, if there were several machines."""
    table = empty_table(
        f"Latency: the {len(found)} largest discrepancies",
        "model",
        SIDES,
        "operating\npoint",
        "median ms>r",
        "A / B>r",
        "control>r",
        "verdict",
    )
    table.columns[2].no_wrap = True
    facts = [answers[item["comparison_id"]]["latency"]["machine"] for item in found]
    machines = {each["short"]: each["line"] for each in facts if "short" in each}
    table.caption = "\n".join(f"machine {name}: {line}" for name, line in machines.items())
    table.caption_justify = "left"
    if len(machines) > 1:
        table.add_column("machine")
    for item in found:
        ends = None if item["ci95"] is None else [1 + end for end in item["ci95"]]
        table.add_row(
            item["architecture"],
            both(item["a_ref"], item["b_ref"]),
            _lines(item["metric"]),
            both(milliseconds(item["a"]), milliseconds(item["b"])),
            _ratio({"ratio": None if item["effect"] is None else 1 + item["effect"], "ci95": ends}),
            _ratio(item["details"].get("control") or {}),
            _verdict(item),
            *([item["details"].get("machine") or "-"] if len(machines) > 1 else []),
        )
    return table


def _lines(metric: str) -> str:
    """Return a finding's metric in short lines, which leaves a narrow terminal room for the rest."""
    return re.sub(r"(?<=framework) | (?=cpu|cuda|threads)", "\n", metric.removeprefix("latency "))


def _verdict(item: dict[str, Any]) -> Text:
    """Return a finding's verdict, and what keeps it from one."""
    said = word(item["details"].get("verdict"))
    undecided = item["details"].get("undecided")
    return said.append(f"\n{undecided}", style="dim") if undecided else said
