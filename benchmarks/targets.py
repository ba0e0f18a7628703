"""Runs scripts that print figures, one after the other, and says which targets the figures meet."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Figure:
    """One target: what it is, the line of a part's output that states it, and when a number found there meets it.

    ``pattern`` has one group, the number. Where it matches several lines the largest number is judged.
    """

    target: str
    pattern: str
    met: Callable[[float], bool]


@dataclass(frozen=True)
class Part:
    """One script beside this file, its arguments, and the figures that it prints."""

    script: str
    arguments: tuple[str, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Ran:
    """What came of one part: its output, its exit code, and how long it took."""

    output: str
    code: int
    seconds: float


def run(part: Part) -> Ran:
    """Run one part as a child process and show its lines as they come."""
    words = [sys.executable, "-u", str(FOLDER / part.script), *part.arguments]
    started = time.monotonic()
    lines: list[str] = []
    with subprocess.Popen(words, cwd=FOLDER.parent, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    return Ran("".join(lines), child.returncode, time.monotonic() - started)


def judge(figure: Figure, ran: Ran) -> tuple[str, str]:
    """Return the number that a part printed for a figure, and whether it meets the target."""
    numbers = [float(number) for number in re.findall(figure.pattern, ran.output, re.MULTILINE)]
    if not numbers:
        return "-", "not measured"
    largest = max(numbers)
    return f"{largest:g}", "met" if figure.met(largest) else "missed"


def measure(title: str, parts: Mapping[str, Part]) -> bool:
    """Run the parts, print the table of targets, and say whether every part ran and every target is met."""
    table = Table("part", "target", "measured", "verdict", title=f"{title}: targets and what was measured")
    clean = True
    for number, (name, part) in enumerate(parts.items(), start=1):
        print(f"\n== {number} of {len(parts)}: {name} ({part.script})", flush=True)
        ran = run(part)
        clean = clean and ran.code == 0
        for figure in part.figures:
            measured, verdict = judge(figure, ran)
            clean = clean and verdict == "met"
            table.add_row(name, figure.target, measured, verdict)
        end = "" if ran.code == 0 else f", failed with exit code {ran.code}"
        print(f"== {name} took {ran.seconds:.0f} s{end}", flush=True)
    # A pipe or a file gets the table whole, not cut to a terminal's width.
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    return clean
