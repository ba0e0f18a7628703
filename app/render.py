"""What people read in a terminal: tables of comparisons and audits, progress bars."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from app import evidence
from app.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import RenderableType

MOST_DIFFERENCES = 20
"""Lines of an architecture's difference list before a person is sent to the JSON."""

_PAGE_WIDTH = 160
_SIDES = "A, B"
_WHAT = "what differs, A → B"

_COLOURS = {
    "interchangeable": "green",
    "identical": "green",
    "same_function": "green",
    "equivalent": "green",
    "same": "green",
    "inside": "green",
    "not_interchangeable": "red",
    "different": "red",
    "a_faster": "red",
    "b_faster": "red",
    "outside": "red",
    "structural": "red",
    "interface": "yellow",
    "numeric": "yellow",
    "inconclusive": "yellow",
    "failed": "magenta",
}


def console(*, stderr: bool = False) -> Console:
    """Return a console; tables keep their full width when the output is no terminal."""
    found = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not found.is_terminal:
        found = Console(stderr=stderr, highlight=False, width=160)
    return found


def write_html(renderable: RenderableType, path: Path) -> None:
    """Write what a terminal would show as an HTML page; raises InvalidError when the file cannot be written."""
    page = Console(record=True, highlight=False, width=_PAGE_WIDTH, file=io.StringIO())
    page.print(renderable)
    try:
        page.save_html(str(path))
    except OSError as error:
        raise InvalidError(f"The report cannot be written: {error}.") from error


def word(value: str | None) -> Text:
    """Return a verdict or severity in its colour."""
    return Text("-" if value is None else value.replace("_", " "), style=_COLOURS.get(value or "", ""))


def count(value: float | None) -> str:
    """Return a count with thousands separated."""
    return "-" if value is None else f"{value:,.0f}"


def per_cent(value: float | None) -> str:
    """Return a fraction as per cent."""
    return "-" if value is None else f"{100 * value:.2f} %"


def milliseconds(value: float | None) -> str:
    """Return milliseconds with three significant digits."""
    return "-" if value is None else f"{value:#.3g}"


def interval(value: Sequence[float] | None, shape: str = "{:.3f}") -> str:
    """Return an interval as ``low … high``."""
    return "-" if value is None else " … ".join(shape.format(end) for end in value)


def signed_per_cent(value: float | None) -> str:
    """Return a signed fraction as per cent."""
    return "-" if value is None else f"{100 * value:+.2f} %"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title or None, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        name, _, right = column.partition(">")
        # References stay whole: a person copies them into the next command.
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=name == _SIDES)
        if name == _WHAT:
            table.columns[-1].min_width = 28
    return table


def rows(values: Sequence[dict[str, Any]], columns: Sequence[str]) -> Table:
    """Return rows of a list as a table; None is left blank."""
    table = _table("", *columns)
    for value in values:
        table.add_row(*("" if value.get(column) is None else str(value[column]) for column in columns))
    return table


def comparison(value: dict[str, Any]) -> RenderableType:
    """Return one comparison, in the JSON of the contract, as tables."""
    parts: list[RenderableType] = []
    title = Text.assemble(
        ("A ", "bold"), value["a"]["ref"], ("   B ", "bold"), value["b"]["ref"], "   ", word(value.get("verdict"))
    )
    parts += [title, Text(value.get("reason") or "", style="dim")]
    for dimension, make in (("architecture", _architecture), ("accuracy", _accuracy), ("latency", _latency)):
        if value.get(dimension):
            parts += ["", *make(value[dimension])]
        elif error := (value.get("errors") or {}).get(dimension):
            parts += ["", Text.assemble((f"{dimension} was not measured: ", "yellow"), error["message"])]
    return Group(*parts)


def _architecture(block: dict[str, Any]) -> list[RenderableType]:
    counts = _table("Architecture", "", "parameters>r", "buffers>r", "GFLOPs>r", "nodes>r")
    for side in ("a", "b"):
        row = block[side]
        flops = row.get("flops")
        counts.add_row(
            side.upper(),
            count(row.get("parameters")),
            count(row.get("buffers")),
            "-" if flops is None else f"{flops / 1e9:.3f}",
            count(row.get("nodes")),
        )
    differences = block["differences"]
    parts: list[RenderableType] = [counts, Text.assemble("verdict: ", word(block["verdict"]))]
    lines = (
        evidence.proof(block.get("proof") or {}) or block.get("note"),
        evidence.input_sizes(block.get("input_sizes") or {}),
    )
    parts += [Text(line, style="dim") for line in lines if line]
    if not differences:
        return parts
    listed = _table(f"{len(differences)} differences", "kind", "what", "A", "B", "severity")
    for item in differences[:MOST_DIFFERENCES]:
        repeats = item.get("repeats", 1)
        listed.add_row(
            f"{item['kind']} ×{repeats}" if repeats > 1 else item["kind"],
            item.get("attribute") or "",
            _end(item.get("a")),
            _end(item.get("b")),
            word(item["severity"]),
        )
    parts.append(listed)
    if len(differences) > MOST_DIFFERENCES:
        parts.append(Text(f"… and {len(differences) - MOST_DIFFERENCES} more; --json has all.", style="dim"))
    return parts


def _end(end: dict[str, Any] | None) -> str:
    if end is None:
        return "-"
    shown = "" if end.get("value") is None else f" {end['value']}"
    return f"{end.get('op', '')}{shown}  ({end.get('node', '')})"


def _accuracy(block: dict[str, Any]) -> list[RenderableType]:
    title = f"Accuracy on {block.get('dataset')}, {block['items']:,} items"
    table = _table(title, "metric", "A>r", "B>r", "A - B>r", "95 % interval>r", "p>r")
    for metric in ("top1", "top5"):
        if row := block.get(metric):
            ends = [100 * end for end in row["ci95"]]
            table.add_row(
                metric,
                per_cent(row["a"]),
                per_cent(row["b"]),
                signed_per_cent(row["difference"]),
                interval(ends, "{:+.2f}"),
                f"{row['p_value']:.2g}",
            )
    ledger = block["ledger"]
    told = (
        f"agreement {per_cent(block['agreement'])}; both right {ledger['both_right']:,}, only A {ledger['a_only']:,}, "
        f"only B {ledger['b_only']:,}, both wrong alike {ledger['both_wrong_same']:,}, "
        f"both wrong differently {ledger['both_wrong_different']:,}"
    )
    verdict = Text.assemble("verdict: ", word(block["verdict"]), f" at a margin of {per_cent(block['margin'])}")
    if block.get("items_needed"):
        verdict.append(f"; about {block['items_needed']:,} items would decide")
    return [table, Text(told), verdict]


def _latency(block: dict[str, Any]) -> list[RenderableType]:
    table = _table(
        "Latency",
        "operating point",
        "A median ms>r",
        "B median ms>r",
        "A / B>r",
        "95 % interval>r",
        "control A / A>r",
        "blocks>r",
        "verdict",
    )
    for point in block["operating_points"]:
        ratio = point.get("ratio")
        control = point.get("control") or {}
        table.add_row(
            operating_point(point),
            milliseconds(point["a"].get("median_ms")),
            milliseconds(point["b"].get("median_ms")),
            "-" if ratio is None else f"{ratio:.3f}",
            interval(point.get("ci95")),
            interval(control.get("ci95")),
            str(point.get("blocks", "-")),
            word(point["verdict"]),
        )
    return [table, Text.assemble("verdict: ", word(block["verdict"]))]


def operating_point(point: dict[str, Any]) -> str:
    """Return an operating point as people say it."""
    return f"{point['runtime']} {point['device']}, batch {point['batch']}, {point['threads']} thread(s)"


def audit(value: dict[str, Any], ranked: dict[str, list[dict[str, Any]]], answers: dict[str, dict[str, Any]]) -> Group:
    """Return an audit as one table a dimension.

    ``ranked`` holds the largest findings by dimension, ``answers`` the comparisons they belong to, by id.
    """
    summary = value.get("summary") or {}
    verdicts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in summary.get("verdicts", {}).items())
    parts: list[RenderableType] = [
        Text.assemble(("Audit ", "bold"), " · ".join(value["zoos"]), f": {verdicts or value['state']}")
    ]
    makers = {"architecture": _ranked_architecture, "accuracy": _ranked_accuracy, "latency": _ranked_latency}
    for dimension, found in ranked.items():
        if found:
            parts += ["", makers[dimension](found, answers)]
    return Group(*parts)


def _ranked_architecture(found: list[dict[str, Any]], answers: dict[str, dict[str, Any]]) -> Table:
    table = _table(
        f"Architecture: the {len(found)} largest discrepancies",
        "model",
        _SIDES,
        "structural>r",
        "parameters>r",
        "GFLOPs>r",
        _WHAT,
        "verdict",
    )
    for item in found:
        block = answers[item["comparison_id"]]["architecture"]
        table.add_row(
            item["architecture"],
            _both(item["a_ref"], item["b_ref"]),
            count(item["effect"]),
            _both(*(count(block[side].get("parameters")) for side in ("a", "b"))),
            _both(*(_giga(block[side].get("flops")) for side in ("a", "b"))),
            "\n".join(first_differences(block["differences"])),
            word(block["verdict"]),
        )
    return table


def _both(a: str, b: str) -> str:
    """Put what belongs to A above what belongs to B, which leaves a narrow terminal room for the rest."""
    return f"{a}\n{b}"


def _giga(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e9:.3g}"


def first_differences(differences: Sequence[dict[str, Any]], most: int = 3) -> list[str]:
    """Say the gravest differences in a few words, alike ones counted together."""
    counted: dict[str, int] = {}
    for severity in ("structural", "interface", "numeric", "cosmetic"):
        for item in differences:
            if item["severity"] == severity:
                words = _in_words(item)
                counted[words] = counted.get(words, 0) + item.get("repeats", 1)
    parts = [f"{number}× {words}" if number > 1 else words for words, number in list(counted.items())[:most]]
    if len(counted) > most:
        parts.append(f"and {len(counted) - most} more")
    return parts


def _in_words(item: dict[str, Any]) -> str:
    a, b = item.get("a"), item.get("b")
    if a and b:
        if a.get("op") != b.get("op"):
            return f"{a.get('op')} → {b.get('op')}"
        what = item.get("attribute") or item["kind"]
        return f"{a.get('op')} {what} {_brief(a.get('value'))} → {_brief(b.get('value'))}"
    side = a or b or {}
    return f"{side.get('op')} only in {'A' if a else 'B'}"


def _brief(value: Any) -> str:  # noqa: ANN401 - any JSON value
    # A list whose numbers are all the same, such as a square kernel, needs only one of them.
    if isinstance(value, list) and value and all(item == value[0] for item in value):
        return str(value[0])
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _ranked_accuracy(found: list[dict[str, Any]], _answers: dict[str, dict[str, Any]]) -> Table:
    table = _table(
        f"Accuracy: the {len(found)} largest discrepancies",
        "model",
        _SIDES,
        "metric",
        "value>r",
        "A - B>r",
        "95 % interval>r",
        "margin>r",
        "verdict",
    )
    for item in found:
        ends = None if item["ci95"] is None else [100 * end for end in item["ci95"]]
        table.add_row(
            item["architecture"],
            _both(item["a_ref"], item["b_ref"]),
            item["metric"],
            _both(per_cent(item["a"]), per_cent(item["b"])),
            signed_per_cent(item["effect"]),
            interval(ends, "{:+.2f}"),
            per_cent(item["margin"]),
            word(item["verdict"]),
        )
    return table


def _ranked_latency(found: list[dict[str, Any]], _answers: dict[str, dict[str, Any]]) -> Table:
    table = _table(
        f"Latency: the {len(found)} largest discrepancies",
        "model",
        _SIDES,
        "operating point",
        "median ms>r",
        "A / B>r",
        "95 % interval>r",
        "control>r",
        "verdict",
    )
    for item in found:
        control = item["details"].get("control") or {}
        table.add_row(
            item["architecture"],
            _both(item["a_ref"], item["b_ref"]),
            item["metric"].removeprefix("latency ").replace(" batch", "\nbatch"),
            _both(milliseconds(item["a"]), milliseconds(item["b"])),
            "-" if item["effect"] is None else f"{1 + item['effect']:.3f}",
            interval(None if item["ci95"] is None else [1 + end for end in item["ci95"]]),
            interval(control.get("ci95")),
            word(item["details"].get("verdict")),
        )
    return table


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a progress bar on standard error; yields ``show(done, total, message)``."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[message]}"),
        console=console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(description, total=None, message="")

        def show(done: int, total: int, message: str) -> None:
            bar.update(task, completed=done, total=total or None, message=message)

        yield show
