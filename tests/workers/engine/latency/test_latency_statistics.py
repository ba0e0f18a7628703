import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest

from workers.engine.latency import statistics

Floats = npt.NDArray[np.float64]


def block_values(rng: np.random.Generator, blocks: int, *, ratio: float, rounds: int = 12) -> Floats:
    """Log-ratios of blocks on a noisy machine: drift, autocorrelated load, process effects, one block in ten hit."""
    values = []
    for _ in range(blocks):
        noise = rng.normal(0, 0.03, 2 * rounds)
        for i in range(1, 2 * rounds):
            noise[i] += 0.7 * noise[i - 1]
        drift = rng.normal(0, 0.1) * np.linspace(0, 1, 2 * rounds)
        luck = rng.normal(0, 0.004, 2) + (rng.random() < 0.1) * rng.normal(0, 0.03, 2)
        spikes = np.where(rng.random(2 * rounds) < 0.05, rng.exponential(0.5, 2 * rounds), 0)
        times = np.exp(noise + drift + spikes)
        first = np.arange(0, 2 * rounds, 2) + np.arange(rounds) % 2  # A B, B A
        second = np.arange(0, 2 * rounds, 2) + 1 - np.arange(rounds) % 2
        a, b = times[first] * math.exp(luck[0]) * ratio, times[second] * math.exp(luck[1])
        values.append(statistics.block_ratio(a, b).log_ratio)
    return np.array(values)


def stopped(values: Floats, margin: float) -> statistics.Estimate:
    """Look after every block, as a session does."""
    for n in range(1, len(values) + 1):
        value = statistics.estimate(values[:n])
        if statistics.decided(value, margin) or statistics.precise(value, margin):
            break
    return value


def covers(value: statistics.Estimate, ratio: float) -> bool:
    assert value.ci95 is not None
    return value.ci95[0] <= ratio <= value.ci95[1]


@pytest.mark.parametrize("blocks", [3, 4, 6, 10])
def test_the_interval_covers_at_its_level_with_drift_load_and_hit_blocks(blocks: int) -> None:
    rng = np.random.default_rng(blocks)
    covered = [covers(statistics.estimate(block_values(rng, blocks, ratio=1.03)), 1.03) for _ in range(400)]
    assert np.mean(covered) >= 0.93  # 0.95 less 1.8 standard errors of 400 sessions


def test_a_listing_is_never_called_faster_than_itself_and_a_tenth_is_found() -> None:
    rng = np.random.default_rng(7)
    same = [stopped(block_values(rng, 12, ratio=1.0), 0.05) for _ in range(300)]
    slower = [stopped(block_values(rng, 12, ratio=1.1), 0.05) for _ in range(200)]
    assert np.mean([covers(value, 1.0) for value in same]) >= 0.93
    assert all(value.ci95 and value.ci95[0] < 1.05 and value.ci95[1] > 1 / 1.05 for value in same)
    assert np.mean([bool(value.ci95) and value.ci95[1] < 1.05 and value.ci95[0] > 1 / 1.05 for value in same]) > 0.9
    assert np.mean([bool(value.ci95) and value.ci95[0] > 1.05 for value in slower]) > 0.95


def test_a_difference_on_the_margin_is_seldom_called_the_same_although_every_block_is_looked_at() -> None:
    rng = np.random.default_rng(11)
    near = [stopped(block_values(rng, 12, ratio=1.055), 0.05) for _ in range(300)]
    assert np.mean([bool(value.ci95) and value.ci95[1] < 1.05 for value in near]) <= 0.025


def test_the_signed_rank_interval_agrees_with_its_definition() -> None:
    values = np.array([0.3, -0.1, 0.25, 0.6, 0.02, 0.41, -0.3, 0.11])
    interval = statistics.location_interval(values)
    assert interval is not None
    ranks = np.arange(1, 9)
    sums = [int(ranks[list(signs)].sum()) for signs in itertools.product([False, True], repeat=8)]
    walsh = sorted((values[i] + values[j]) / 2 for i in range(8) for j in range(i, 8))
    cut = max(c for c in range(36) if np.mean([total < c for total in sums]) <= 0.025)
    assert interval == pytest.approx((walsh[cut - 1], walsh[len(walsh) - cut]))
    assert statistics.hodges_lehmann(values) == pytest.approx(float(np.median(walsh)))


def test_six_blocks_are_the_fewest_for_the_signed_rank_interval() -> None:
    six = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 60.0])
    assert statistics.location_interval(six) == (1.0, 60.0)
    five = statistics.location_interval(six[:5])
    assert five is not None
    assert five == pytest.approx((3 - 2.7764 * math.sqrt(2.5 / 5), 3 + 2.7764 * math.sqrt(2.5 / 5)), abs=1e-3)
    assert statistics.location_interval(six[:1]) is None


def test_one_block_gives_a_ratio_and_no_interval() -> None:
    value = statistics.estimate(np.array([math.log(1.2)]))
    assert value.ratio == pytest.approx(1.2)
    assert value.ci95 is None
    assert not statistics.decided(value, 0.05)
    assert not statistics.moved(value, 0.05)
    assert statistics.blocks_needed(value, 0.05) is None


def test_the_ratio_of_a_block_ignores_a_spike_and_a_common_drift() -> None:
    drift = np.linspace(1, 3, 9)
    a, b = 2 * drift, drift.copy()
    a[4] = 500.0
    assert statistics.block_ratio(a, b).log_ratio == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match="cannot be paired"):
        statistics.block_ratio(a, b[:3])


def test_few_clean_iterations_do_not_stand_for_all() -> None:
    flags = np.zeros(40, dtype=bool)
    assert statistics.enough_clean(flags)
    flags[10:] = True
    assert statistics.enough_clean(flags)
    flags[9:] = True
    assert not statistics.enough_clean(flags)
    assert not statistics.enough_clean(np.array([False, True]))


def test_the_control_moves_only_when_its_interval_clears_a_third_of_the_margin() -> None:
    calm = statistics.estimate(np.full(6, 0.012) + np.linspace(-0.001, 0.001, 6))
    moved = statistics.estimate(np.full(6, -0.03) + np.linspace(-0.001, 0.001, 6))
    assert not statistics.moved(calm, 0.05)
    assert statistics.moved(moved, 0.05)


def test_more_scatter_needs_more_blocks() -> None:
    few, many = (
        statistics.blocks_needed(statistics.estimate(sd * np.array([-1.0, 0.2, 1.1])), 0.05) for sd in (0.03, 0.1)
    )
    assert few is not None
    assert many is not None
    assert 4 <= few < many


@pytest.mark.parametrize(("share", "least"), [(0.9, 64), (0.95, 130), (0.99, 662), (0.999, 6636)])
def test_a_percentile_needs_its_samples_and_bounds_from_above(share: float, least: int) -> None:
    rng = np.random.default_rng(3)
    assert statistics.percentile_bound(rng.exponential(size=least - 1), share) is None
    truth = -math.log(1 - share)
    bounds = [statistics.percentile_bound(rng.exponential(size=least), share) for _ in range(1000)]
    assert np.mean([bound is not None and bound >= truth for bound in bounds]) >= 0.98
    assert any(bound is not None and bound < truth for bound in bounds)
