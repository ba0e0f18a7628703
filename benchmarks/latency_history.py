"""How often a history without a step is said to have one, how soon a real one is found (docs/latency-history.md)."""

# ruff: noqa: S311 - simulations want a seed, not secrecy

from __future__ import annotations

import argparse
import math
import random
from typing import TYPE_CHECKING

from app.domain import steps

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS, BEGINS, MARGIN = 50, 25, 0.05
SCATTERS = (0.002, 0.01, 0.02, 0.04)
CORRELATIONS = (0.0, 0.3, 0.6)
OUTLIERS = (0.0, 0.05, 0.1)


def history(rng: random.Random, scatter: float, correlation: float, outliers: float, *, heavy: bool) -> Iterator[float]:
    """Yield the medians of runs: autocorrelated noise, and now and then a run that something slowed by 10 to 60 %."""
    noise = rng.gauss(0, scatter)
    for _ in range(RUNS):
        shock = rng.gauss(0, 1)
        if heavy:  # Student's t with 3 degrees of freedom, scaled to the same variance
            shock /= math.sqrt(rng.gammavariate(1.5, 1 / 1.5) * 3)
        noise = correlation * noise + math.sqrt(1 - correlation**2) * scatter * shock
        yield 20 * math.exp(noise + (rng.uniform(0.1, 0.6) if rng.random() < outliers else 0.0))


def false_steps(trials: int, scatter: float, correlation: float, outliers: float, *, heavy: bool) -> float:
    """Share of stationary histories with a step."""
    rng = random.Random(99)
    simulated = (list(history(rng, scatter, correlation, outliers, heavy=heavy)) for _ in range(trials))
    return sum(bool(steps.find(values, margin=MARGIN).steps) for values in simulated) / trials


def found(trials: int, scatter: float, correlation: float, outliers: float, *, heavy: bool) -> float:
    """Share of steps of 10 % that are found by their fourth run, two after they first recurred."""
    rng = random.Random(98)
    count = 0
    for _ in range(trials):
        values = history(rng, scatter, correlation, outliers, heavy=heavy)
        stepped = [value * (1.1 if at >= BEGINS else 1.0) for at, value in enumerate(values)]
        seen = steps.find(stepped, margin=MARGIN).steps
        count += any(abs(step.start - BEGINS) <= 1 and step.confirmed <= BEGINS + 3 for step in seen)
    return count / trials


def main() -> None:
    """Print one line for each scatter and kind of noise; ranges are over autocorrelation and outliers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--recurs", type=int, default=steps.RECURS, help="runs that must agree, of one more")
    options = parser.parse_args()
    steps.RECURS, steps.RECENT = options.recurs, options.recurs + 1
    for heavy in (False, True):
        for scatter in SCATTERS:
            per_outliers = [
                [false_steps(options.trials, scatter, each, share, heavy=heavy) for each in CORRELATIONS]
                for share in OUTLIERS
            ]
            power = [
                found(options.trials, scatter, correlation, share, heavy=heavy)
                for correlation, share in ((0.0, 0.0), (0.3, 0.05), (0.6, 0.05))
            ]
            said = ", ".join(
                f"{100 * min(rates):.1f} to {100 * max(rates):.1f} % at {share:.0%} outliers"
                for share, rates in zip(OUTLIERS, per_outliers, strict=True)
            )
            noise = "heavy tails" if heavy else "normal noise"
            print(f"scatter {scatter:.1%}, {noise}: false steps {said}; 10 % found in", end=" ")
            print(f"{100 * min(power):.0f} to {100 * max(power):.0f} %", flush=True)


if __name__ == "__main__":
    main()
