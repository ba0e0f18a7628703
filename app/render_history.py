"""What people read of a listing's history in a terminal."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from app.render import signed_per_cent
from app.terminal import empty_table, milliseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"
_SHOWN = 30
"""Runs in a line of bars, the latest."""
_HEIGHT = 0.2
_SHORT = 12
_BASIC = ("runtime", "device", "batch", "threads")


def history(ref: str, found: Sequence[dict[str, Any]]) -> Group:
    """Return a listing's runs as a table, one row for each machine and operating point, and the steps under it.

    ``found`` is as the API lists them, the newest first.
    """
    if not found:
        return Group(Text("No run of this machine and time."))
    table = empty_table(
        f"Latency of {ref} over time",
        "operating point",
        "machine",
        "runs>r",
        "first … last",
        "median ms, oldest to newest",
        "latest ms>r",
        "beside>r",
    )
    lines: list[RenderableType] = []
    machines: dict[str, str] = {}
    for runs in _series(found):
        latest = runs[-1]
        machines[latest["hardware"][:_SHORT]] = latest["machine"]
        counted = [run for run in runs if not run["void"]]
        void = f" + {len(runs) - len(counted)} void" if len(counted) < len(runs) else ""
        table.add_row(
            point(latest["operating_point"]),
            latest["hardware"][:_SHORT],
            f"{len(counted)}{void}",
            f"{runs[0]['created_at'][:10]} … {latest['created_at'][:10]}",
            bars([run["median_ms"] for run in counted]),
            milliseconds(latest["median_ms"]),
            "-" if latest["busy_beside"] is None else f"{latest['busy_beside']:.1f}",
        )
        lines += [_step(run) for run in runs if run["step"]]
    named = [Text(f"machine {name}: {line}", style="dim") for name, line in machines.items()]
    return Group(table, *named, *lines)


def _series(found: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the runs that compare: of one machine and operating point, oldest first."""
    by_age = sorted(found, key=lambda run: (run["hardware"], run["point_key"], run["created_at"]))
    return [list(runs) for _, runs in groupby(by_age, key=lambda run: (run["hardware"], run["point_key"]))]


def point(settings: dict[str, Any]) -> str:
    """Return an operating point as people say it."""
    said = f"{settings['runtime']} {settings['device']}, batch {settings['batch']}, {settings['threads']} thread(s)"
    return ", ".join([said, *(f"{name} {value}" for name, value in settings.items() if name not in _BASIC)])


def bars(values: Sequence[float]) -> str:
    """Return the latest values as bars that begin at the smallest; the full height is ``_HEIGHT`` more, or the largest.

    So that what does not matter looks as if it did not.
    """
    shown = values[-_SHOWN:]
    low = min(shown, default=0.0)
    height = max([_HEIGHT * low, *(value - low for value in shown)])
    return "".join(_BARS[round((value - low) / height * (len(_BARS) - 1))] for value in shown)


def _step(run: dict[str, Any]) -> Text:
    """Return one line on the change that begins with a run."""
    step = run["step"]
    sure = step["state"] == "confirmed"
    levels = f"{milliseconds(step['before_ms'])} → {milliseconds(step['after_ms'])} ms"
    what = "; ".join(f"{each['what']} {_value(each['before'])} → {_value(each['after'])}" for each in step["changed"])
    with_it = f"; with it changed: {what}" if what else "; nothing recorded changed with it"
    return Text.assemble(
        ("step " if sure else "unconfirmed ", "red" if sure else "yellow"),
        f"{run['created_at'][:16].replace('T', ' ')}, {point(run['operating_point'])}: {levels} "
        f"({signed_per_cent(step['ratio'] - 1)}){with_it if sure else '; one run is no change'}",
    )


def _value(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return "-" if value is None else str(value)[:_SHORT]
