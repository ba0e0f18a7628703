"""Random single changes and random rewrites of real networks: what the architecture comparison finds of them.

    python benchmarks/architecture_mutations.py [--changes N] [--rewrites N] [--seed N] [--network NAME]... [--show]

Every base network is exported once. Each mutant holds one semantic change, which must be detected, at the right node,
in as few differences as possible; each rewrite changes the representation alone, and must not be reported as
structural.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from architecture import judge, networks
from architecture.mutations import MUTATORS, mutate
from architecture.rewrites import REWRITES, rewrite
from rich.console import Console
from rich.progress import track

from workers.engine.graph.compare import compare

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


def changes(found: list[judge.Base], number: int, rng: random.Random, folder: Path, *, show: bool) -> None:
    """Draw the changes in turn over networks and kinds, judge each, and print the figures by kind."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    tasks = [(base, kind) for base in found for kind in MUTATORS]
    seen: set[tuple[Any, ...]] = set()
    total = 0
    for base, kind in track(_forever(tasks, number * 8, rng), description="changes", console=PROGRESS):
        if total == number:
            break
        mutant = mutate(base.proto, kind, rng)
        if mutant is None:
            continue
        text = mutant.proto.SerializeToString(deterministic=True)
        if (base.name, hash(text)) in seen:
            continue
        seen.add((base.name, hash(text)))
        judged = judge.judge(base, mutant, folder / "mutant.onnx")
        total += 1
        kinds[kind].update(
            made=1, detected=judged.detected, located=judged.located, differences=len(judged.differences)
        )
        if show and (not judged.located or len(judged.differences) > 1):
            print(f"--- {base.name} {kind} {mutant.places} detected={judged.detected} located={judged.located}")
            for difference in judged.differences[:6]:
                print("   ", describe(difference))
    print(f"{'change':20}{'made':>6}{'detected':>10}{'located':>9}{'differences each':>18}")
    for kind, counts in sorted(kinds.items()):
        print(
            f"{kind:20}{counts['made']:6}{counts['detected']:10}{counts['located']:9}"
            f"{counts['differences'] / counts['made']:18.2f}"
        )
    whole: Counter[str] = sum(kinds.values(), Counter())
    made = whole["made"]
    print(
        f"{made} changes of {len(found)} networks: {whole['detected'] / made:.2%} detected, "
        f"{whole['located'] / made:.2%} located, {whole['differences'] / made:.3f} differences each"
    )


def _forever(tasks: list[Any], number: int, rng: random.Random) -> list[Any]:
    drawn: list[Any] = []
    while len(drawn) < number:
        drawn += rng.sample(tasks, len(tasks))
    return drawn


def rewrites(found: list[judge.Base], number: int, rng: random.Random, folder: Path, *, show: bool) -> None:
    """Apply rewrites in turn over networks and kinds and print how often one was taken for a difference."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    total = 0
    tasks = [(base, kind) for base in found for kind in REWRITES]
    for base, kind in track(_forever(tasks, number * 8, rng), description="rewrites", console=PROGRESS):
        if total == number:
            break
        proto = rewrite(base.proto, kind, rng)
        if proto is None:
            continue
        total += 1
        result = compare(base.canonical, judge.canonical(proto, folder / "rewrite.onnx"))
        severities = {item["severity"] for item in result["differences"]}
        kinds[kind].update(
            made=1, structural="structural" in severities, identical=not severities, other=bool(severities)
        )
        if show and severities:
            print(f"--- {base.name} {kind}")
            for difference in result["differences"][:6]:
                print("   ", describe(difference))
    print(f"{'rewrite':24}{'made':>6}{'structural':>12}{'no difference':>15}")
    for kind, counts in sorted(kinds.items()):
        print(f"{kind:24}{counts['made']:6}{counts['structural']:12}{counts['identical']:15}")
    whole: Counter[str] = sum(kinds.values(), Counter())
    print(
        f"{whole['made']} rewrites of {len(found)} networks: {whole['structural']} reported as structural, "
        f"{whole['identical']} with no difference at all"
    )


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
