"""Measure every figure that docs/architecture-diff.md claims, one part after the other, and say which targets are met.

    python benchmarks/architecture.py [--quick] [--seed N] [--part PART]...

Each part is a script of its own beside this one and may be run alone; its lines are shown as it prints them.
``--quick`` takes a few networks of each part, for a look in minutes; its figures say little. The whole takes hours,
nearly all of it for indexing the zoos. Exits with 1 when a part failed or a target was missed.
"""

from __future__ import annotations

import argparse
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
    from collections.abc import Callable

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
    """One script, its arguments (all of it, and for a quick look), and the figures that it prints."""

    script: str
    full: tuple[str, ...]
    quick: tuple[str, ...]
    figures: tuple[Figure, ...]


_FEW = tuple(
    word
    for name in ("resnet18", "mobilenet_v3_small", "squeezenet1_1", "text_encoder", "text_decoder", "segmenter")
    for word in ("--network", name)
)

PARTS = {
    "mutations": Part(
        "architecture_mutations.py",
        ("--changes", "600", "--rewrites", "600"),
        ("--changes", "60", "--rewrites", "60", *_FEW),
        (
            Figure("500 single changes or more", r"(\d+) changes of \d+ networks", lambda made: made >= 500),
            Figure("of 12 networks or more", r"\d+ changes of (\d+) networks", lambda networks: networks >= 12),
            Figure("100 % detected", r"([\d.]+)% detected", lambda share: share == 100),
            Figure("99 % located or more", r"([\d.]+)% located", lambda share: share >= 99),
            Figure("1.3 differences each at most", r"([\d.]+) differences each", lambda number: number <= 1.3),
            Figure("500 rewrites or more", r"(\d+) rewrites of \d+ networks", lambda made: made >= 500),
            Figure("0 reported as structural", r"(\d+) reported as structural", lambda number: number == 0),
        ),
    ),
    "speed": Part(
        "architecture_speed.py",
        (),
        (),
        (
            Figure("diff of two graphs of 5,000 nodes under 2 s", r"5\d{3} nodes,.* ([\d.]+) s ", lambda s: s < 2),
            Figure("file of 100,000 nodes read (s)", r"file of 100000 nodes .* in ([\d.]+) s", lambda _: True),
        ),
    ),
    "counts": Part(
        "architecture_counts.py",
        (),
        ("--match", "resnet"),
        (
            Figure(
                "0 counts that deviate from torchvision's without an explanation",
                r"(\d+) are not explained",
                lambda number: number == 0,
            ),
        ),
    ),
    "index": Part(
        "architecture_index.py",
        (),
        ("--zoo", "torchvision"),
        (
            Figure(
                "less than 2 % of torch's architectures failed",
                r"^(?:timm|torchvision): .* failed \(([\d.]+)%\)",
                lambda share: share < 2,
            ),
            Figure(
                "median torch model fingerprinted in under 1.5 processor seconds",
                r"^\s*(?:timm|torchvision): processor seconds a model: median ([\d.]+)",
                lambda seconds: seconds < 1.5,
            ),
            Figure(
                "search among 3,000 listings under 100 ms",
                r"^\s+\w+: median ([\d.]+) ms",
                lambda milliseconds: milliseconds < 100,
            ),
        ),
    ),
}


@dataclass(frozen=True)
class Ran:
    """What came of one part: its output, its exit code, and how long it took."""

    output: str
    code: int
    seconds: float


def run(part: Part, seed: int, *, quick: bool) -> Ran:
    """Run one part as a child process and show its lines as they come."""
    words = [sys.executable, "-u", str(FOLDER / part.script), *(part.quick if quick else part.full)]
    if part.script == "architecture_mutations.py":
        words += ["--seed", str(seed)]
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


def main() -> None:
    """Run the parts, then print the table of targets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few networks of each part")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part")
    options = parser.parse_args()
    names = options.part or list(PARTS)
    table = Table("part", "target", "measured", "verdict", title="Architecture: targets and what was measured")
    clean = True
    for number, name in enumerate(names, start=1):
        print(f"\n== {number} of {len(names)}: {name} ({PARTS[name].script})", flush=True)
        ran = run(PARTS[name], options.seed, quick=options.quick)
        clean = clean and ran.code == 0
        for figure in PARTS[name].figures:
            measured, verdict = judge(figure, ran)
            clean = clean and verdict == "met"
            table.add_row(name, figure.target, measured, verdict)
        end = "" if ran.code == 0 else f", failed with exit code {ran.code}"
        print(f"== {name} took {ran.seconds:.0f} s{end}", flush=True)
    # A pipe or a file gets the table whole, not cut to a terminal's width.
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    sys.exit(0 if clean else 1)


if __name__ == "__main__":
    main()
