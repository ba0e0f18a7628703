"""Writes the picture of a comparison's two graphs: the SVG as it is stored, or a page around it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from app.errors import InvalidError
from app.layers import first_place, listed

if TYPE_CHECKING:
    from pathlib import Path

ENDINGS = (".svg", ".html")

_STYLE = """
body { font: 15px/1.4 Helvetica, Arial, sans-serif; color: #111; background: #fff; margin: 24px; }
h1 { font-size: 22px; }
table { border-collapse: collapse; margin: 12px 0 28px; } th, td { padding: 3px 12px 3px 0; text-align: left; }
th { border-bottom: 1px solid #999; } td { border-bottom: 1px solid #ddd; vertical-align: top; }
.picture { overflow-x: auto; }
@media print { .picture svg { width: 100%; height: auto; } }
"""


def write(path: Path, svg: str, answer: dict[str, Any]) -> None:
    """Write a comparison's picture to a file that ends in one of ``ENDINGS``.

    Raises InvalidError when the file cannot be written.
    """
    document = svg if path.suffix.lower() == ".svg" else _page(svg, answer)
    try:
        path.write_text(document, encoding="utf-8")
    except OSError as error:
        raise InvalidError(f"The diagram cannot be written: {error}.") from error


def _page(svg: str, answer: dict[str, Any]) -> str:
    title = escape(f"{answer['a']['ref']} beside {answer['b']['ref']}")
    block = answer["architecture"]
    head = "".join(f"<th>{name}</th>" for name in ("#", "Severity", "What differs, A → B", "Places", "First at"))
    rows = [
        f"<tr><td>{number}</td><td>{escape(item['severity'])}</td><td>{escape(listed(item))}</td>"
        f"<td>{item.get('repeats', 1)}</td><td>{escape(first_place(item))}</td></tr>"
        for number, item in enumerate(block["differences"], 1)
    ]
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>" if rows else ""
    note = f"<p>{escape(block['note'])}</p>" if block.get("note") else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>"
        f"<p>Architecture: {escape(block['verdict'].replace('_', ' '))}; differences: {len(rows)}.</p>{note}\n"
        f'{table}\n<div class="picture">\n{svg}</div></body></html>\n'
    )
