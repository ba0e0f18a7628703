"""Random single changes and random rewrites of real networks: what the architecture comparison finds of them.

    python benchmarks/architecture_mutations.py [--changes N] [--rewrites N] [--seed N] [--network NAME]... [--show]

Every base network is exported and run once. Each mutant holds one semantic change, which must be detected, at the right
node, in as few differences as possible; each rewrite changes the representation alone, and must not be reported as
structural. Both are run in onnxruntime first: a mutant whose outputs are those of its base is no change, and a rewrite
whose results are others is no rewrite; neither counts.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from architecture import judge, networks
from architecture.mutations import MUTATORS, mutate
from architecture.rewrites import REWRITES, rewrite
from rich.console import Console
from rich.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterable

PROGRESS = Console(stderr=True)


def bases(names: list[str], folder: Path) -> list[judge.Base]:
    """Export the base networks."""
    found = []
    for name in track(names, description="exporting", console=PROGRESS):
        path = folder / f"{name}.onnx"
        networks.export(*networks.build(name), path)
        found.append(judge.load(name, path))
    return found


def describe(difference: dict[str, Any]) -> str:
    """One difference in one line."""
    sides = [difference[side] and f"{difference[side]['node']}={difference[side]['value']}" for side in "ab"]
    return f"{difference['severity']} {difference['kind']} {difference['attribute']} {sides[0]} | {sides[1]}"


def changes(found: list[judge.Base], number: int, rng: random.Random, folder: Path, *, show: bool) -> Counter[str]:
    """Draw the changes in turn over networks and kinds, judge each, print the figures by kind and return the sums."""
    kinds: dict[str, Counter[str]] = {kind: Counter() for kind in MUTATORS}
    seen: set[tuple[str, int]] = set()
    made = 0
    for base, kind in _drawn(found, list(MUTATORS), number, rng, "changes"):
        if made == number:
            break
        mutant = mutate(base.proto, kind, rng)
        if mutant is None:
            continue
        key = (base.name, hash(mutant.proto.SerializeToString(deterministic=True)))
        if key in seen:
            continue
        seen.add(key)
        if not base.reference.differs(mutant.proto):
            kinds[kind]["same"] += 1
            if show:
                print(f"--- {base.name} {kind} {mutant.places} computes the same, or does not run")
            continue
        judged = judge.judge(base, mutant, folder / "mutant.onnx")
        made += 1
        kinds[kind].update(
            made=1, detected=judged.detected, located=judged.located, differences=len(judged.differences)
        )
        if show and (not judged.located or len(judged.differences) > 1):
            print(f"--- {base.name} {kind} {mutant.places} detected={judged.detected} located={judged.located}")
            for difference in judged.differences[:6]:
                print("   ", describe(difference))
    print(f"{'change':20}{'made':>6}{'detected':>10}{'located':>9}{'differences each':>18}{'no change':>11}")
    for kind, counts in sorted(kinds.items()):
        each = f"{counts['differences'] / counts['made']:.2f}" if counts["made"] else "-"
        print(f"{kind:20}{counts['made']:6}{counts['detected']:10}{counts['located']:9}{each:>18}{counts['same']:11}")
    whole: Counter[str] = sum(kinds.values(), Counter())
    print(
        f"{made} changes of {len(found)} networks: {whole['detected'] / made:.2%} detected, "
        f"{whole['located'] / made:.2%} located, {whole['differences'] / made:.3f} differences each; "
        f"{whole['same']} drawn besides changed no output, or did not run, and do not count"
    )
    return whole


def _drawn(
    found: list[judge.Base], kinds: list[str], number: int, rng: random.Random, title: str
) -> Iterable[tuple[judge.Base, str]]:
    """Networks and kinds in turn, more than are needed: not every network allows every kind."""
    tasks = [(base, kind) for base in found for kind in kinds]
    drawn: list[tuple[judge.Base, str]] = []
    while len(drawn) < number * 12:
        drawn += rng.sample(tasks, len(tasks))
    return track(drawn, description=title, console=PROGRESS)


def rewrites(found: list[judge.Base], number: int, rng: random.Random, folder: Path, *, show: bool) -> Counter[str]:
    """Apply rewrites in turn over networks and kinds, print how often one was taken for a difference, by kind."""
    kinds: dict[str, Counter[str]] = {kind: Counter() for kind in REWRITES}
    made = 0
    for base, kind in _drawn(found, list(REWRITES), number, rng, "rewrites"):
        if made == number:
            break
        rewritten = rewrite(base.proto, kind, rng)
        if rewritten is None:
            continue
        if not base.reference.same(rewritten.proto, rewritten.elements):
            kinds[kind]["other"] += 1
            if show:
                print(f"--- {base.name} {kind} computes something else")
            continue
        made += 1
        differences = judge.differences(base, rewritten.proto, folder / "rewrite.onnx")
        severities = {item["severity"] for item in differences}
        kinds[kind].update(made=1, structural="structural" in severities, identical=not severities)
        if show and severities:
            print(f"--- {base.name} {kind}")
            for difference in differences[:6]:
                print("   ", describe(difference))
    print(f"{'rewrite':24}{'made':>6}{'structural':>12}{'no difference':>15}{'not the same':>14}")
    for kind, counts in sorted(kinds.items()):
        print(f"{kind:24}{counts['made']:6}{counts['structural']:12}{counts['identical']:15}{counts['other']:14}")
    whole: Counter[str] = sum(kinds.values(), Counter())
    print(
        f"{made} rewrites of {len(found)} networks: {whole['structural']} reported as structural, "
        f"{whole['identical']} with no difference at all; {whole['other']} drawn besides did not compute the same"
    )
    return whole


def main() -> None:
    """Export, change, rewrite, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--rewrites", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--network", action="append", choices=networks.MUTATED, help="only this base network")
    parser.add_argument("--show", action="store_true", help="print what was missed or took several differences")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        found = bases(options.network or list(networks.MUTATED), folder)
        print(f"{len(found)} networks exported in {time.monotonic() - started:.0f} s")
        changes(found, options.changes, random.Random(options.seed), folder, show=options.show)  # noqa: S311  (no secret)
        rewrites(found, options.rewrites, random.Random(options.seed), folder, show=options.show)  # noqa: S311
    print(f"{time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
