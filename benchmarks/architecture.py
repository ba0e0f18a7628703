"""Measure every figure that docs/architecture-diff.md claims, one part after the other, and say which targets are met.

    python benchmarks/architecture.py [--quick] [--seed N] [--part PART]...

Each part is a script of its own beside this one and may be run alone; its lines are shown as it prints them.
``--quick`` takes a few networks of each part, for a look in minutes; its figures say little. The whole takes hours,
nearly all of it for indexing the zoos. Exits with 1 when a part failed or a target was missed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import targets
from targets import Figure


@dataclass(frozen=True)
class Extent:
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
    "mutations": Extent(
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
    "speed": Extent(
        "architecture_speed.py",
        (),
        (),
        (
            Figure("diff of two graphs of 5,000 nodes under 2 s", r"5\d{3} nodes,.* ([\d.]+) s ", lambda s: s < 2),
            Figure("file of 100,000 nodes read (s)", r"file of 100000 nodes .* in ([\d.]+) s", lambda _: True),
        ),
    ),
    "counts": Extent(
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
    "index": Extent(
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


def part(extent: Extent, seed: int, *, quick: bool) -> targets.Part:
    """Return what to run."""
    arguments = extent.quick if quick else extent.full
    if extent.script == "architecture_mutations.py":
        arguments += ("--seed", str(seed))
    return targets.Part(extent.script, arguments, extent.figures)


def main() -> None:
    """Run the parts, then print the table of targets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few networks of each part")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part")
    options = parser.parse_args()
    parts = {name: part(PARTS[name], options.seed, quick=options.quick) for name in options.part or PARTS}
    sys.exit(0 if targets.measure("Architecture", parts) else 1)


if __name__ == "__main__":
    main()
