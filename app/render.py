"""What people read in a terminal: tables of comparisons and audits, progress bars."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from app import evidence, layers, render_contract, render_latency
from app.domain.suspicions import sentence
from app.errors import InvalidError
from app.terminal import SIDES, WHAT, both, empty_table, interval, word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import RenderableType
    from rich.table import Table

_PAGE_WIDTH = 160
_MOST_GROUPS = 40


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


def count(value: float | None) -> str:
    """Return a count with thousands separated."""
    return "-" if value is None else f"{value:,.0f}"


def per_cent(value: float | None) -> str:
    """Return a fraction as per cent."""
    return "-" if value is None else f"{100 * value:.2f} %"


def signed_per_cent(value: float | None) -> str:
    """Return a signed fraction as per cent."""
    return "-" if value is None else f"{100 * value:+.2f} %"


def rows(values: Sequence[dict[str, Any]], columns: Sequence[str]) -> Table:
    """Return rows of a list as a table; None is left blank."""
    table = empty_table("", *columns)
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
    for dimension, make in (
        ("architecture", _architecture),
        ("accuracy", _accuracy),
        ("latency", render_latency.comparison),
    ):
        if value.get(dimension):
            parts += ["", *make(value[dimension])]
        elif error := (value.get("errors") or {}).get(dimension):
            parts += ["", Text.assemble((f"{dimension} was not measured: ", "yellow"), error["message"])]
    if (value.get("contract") or {}).get("differences"):
        parts += ["", render_contract.differences(value["contract"])]
    return Group(*parts)


def _architecture(block: dict[str, Any]) -> list[RenderableType]:
    counts = empty_table("Architecture", "", "parameters>r", "buffers>r", "GFLOPs>r", "nodes>r")
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
    lines = (
        evidence.proof(block.get("proof") or {}) or block.get("note"),
        evidence.input_sizes(block.get("input_sizes") or {}),
    )
    said = [Text(line, style="dim") for line in lines if line]
    verdict = Text.assemble("verdict: ", word(block["verdict"]))
    return [counts, verdict, *said, *layers.differences(block), *layers.aligned(block)]


def _accuracy(block: dict[str, Any]) -> list[RenderableType]:
    title = f"Accuracy on {block.get('dataset')}, {block['items']:,} items"
    table = empty_table(title, "metric", "A>r", "B>r", "A - B>r", "95 % interval>r", "p>r")
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
    suspected = [Text.assemble(("suspected: ", "yellow"), sentence(each)) for each in block.get("suspicions", ())]
    return [table, Text(told), *_self_noise(block.get("self_noise") or {}), verdict, *suspected]


def _self_noise(noise: dict[str, Any]) -> list[Text]:
    """Return one line on the answers that change when a model runs otherwise; nothing for imported predictions."""
    told = [
        f"{side.upper()} {found['flips']:,} of {found['items']:,}"
        for side in ("a", "b")
        if (found := noise.get(side)) is not None
    ]
    return [Text(f"answers that change with another batch and other threads: {', '.join(told)}")] if told else []


def audit(value: dict[str, Any], ranked: dict[str, list[dict[str, Any]]], answers: dict[str, dict[str, Any]]) -> Group:
    """Return an audit as one table a dimension.

    ``ranked`` holds the largest findings by dimension, ``answers`` the comparisons they belong to, by id.
    """
    summary = value.get("summary") or {}
    verdicts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in summary.get("verdicts", {}).items())
    parts: list[RenderableType] = [
        Text.assemble(("Audit ", "bold"), " · ".join(value["zoos"]), f": {verdicts or value['state']}")
    ]
    makers = {"architecture": _ranked_architecture, "accuracy": _ranked_accuracy, "latency": render_latency.ranked}
    for dimension, found in ranked.items():
        if found:
            parts += ["", makers[dimension](found, answers)]
        if dimension == "accuracy":
            parts += _accuracy_groups(summary.get("accuracy_groups", []))
    return Group(*parts)


def _ranked_architecture(found: list[dict[str, Any]], answers: dict[str, dict[str, Any]]) -> Table:
    table = empty_table(
        f"Architecture: the {len(found)} largest discrepancies",
        "model",
        SIDES,
        "structural>r",
        "parameters>r",
        "GFLOPs>r",
        WHAT,
        "verdict",
    )
    for item in found:
        block = answers[item["comparison_id"]]["architecture"]
        table.add_row(
            item["architecture"],
            both(item["a_ref"], item["b_ref"]),
            count(item["effect"]),
            both(*(count(block[side].get("parameters")) for side in ("a", "b"))),
            both(*(_giga(block[side].get("flops")) for side in ("a", "b"))),
            Text("\n".join(layers.first_differences(block["differences"]))),
            word(block["verdict"]),
        )
    return table


def _giga(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e9:.3g}"


def _ranked_accuracy(found: list[dict[str, Any]], answers: dict[str, dict[str, Any]]) -> Table:
    blocks = [answers[item["comparison_id"]]["accuracy"] for item in found]
    named = any(item["architecture"] for item in found)
    table = empty_table(
        f"Accuracy on {_datasets(blocks)}: the largest differences in top-1",
        *(["model"] if named else []),
        SIDES,
        "top-1>r",
        "A - B\n95 % interval>r",
        "agree>r",
        "verdict",
    )
    for item, block in zip(found, blocks, strict=True):
        ends = interval([100 * end for end in item["ci95"]], "{:+.2f}")
        verdict = word(block["verdict"])
        if block["items_needed"]:
            verdict.append(f"\nneeds {block['items_needed']:,}", style="dim")
        table.add_row(
            *([item["architecture"]] if named else []),
            both(item["a_ref"], item["b_ref"]),
            both(per_cent(item["a"]), per_cent(item["b"])),
            both(signed_per_cent(item["effect"]), ends),
            per_cent(block["agreement"]),
            verdict,
        )
    return table


def _datasets(blocks: list[dict[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(f"{block['dataset']}, {block['items']:,} items" for block in blocks))


def _accuracy_groups(groups: list[dict[str, Any]]) -> list[RenderableType]:
    """Return the models that no test tells apart, group by group, the most accurate first; nothing for no groups."""
    if not groups:
        return []
    named = any(group["architecture"] for group in groups)
    table = empty_table("", *(["model"] if named else []), "group", "top-1>r")
    for group in groups[:_MOST_GROUPS]:
        table.add_row(
            *([group["architecture"]] if named else []),
            "\n".join(model["ref"] for model in group["models"]),
            "\n".join(per_cent(model["top1"]) for model in group["models"]),
            end_section=True,
        )
    title = "Accuracy: groups of models that no test tells apart (false discovery rate 5 %)"
    parts: list[RenderableType] = ["", Text(title, style="bold"), table]
    if len(groups) > _MOST_GROUPS:
        parts.append(Text(f"… and {len(groups) - _MOST_GROUPS} more; --json has all.", style="dim"))
    return parts


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
