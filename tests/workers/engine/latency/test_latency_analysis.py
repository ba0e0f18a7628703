import math
from typing import Any

import numpy as np
import pytest

from workers.engine.latency import analysis
from workers.engine.latency.group import Group
from workers.engine.latency.points import OperatingPoint

MS = 1_000_000


def block(number: int, *, control: float = 1.0, ratio: float = 1.0, waits: float = 0.0, threads: int = 1) -> Any:
    """Build ten rounds of slots a, b and the control of a, with the planted ratios and a share of waits."""
    rng = np.random.default_rng(number)
    own = np.array([10 * MS * control, 10 * MS * control / ratio, 10 * MS]) * rng.normal(1, 0.001, (10, 3))
    wait = rng.random((10, 3)) * waits * own
    value = {
        "slots": [0, 1, 0],
        "wall_ns": (own + wait).astype(int).tolist(),
        "cpu_ns": own.astype(int).tolist(),
        "wait_ns": wait.astype(int).tolist(),
        "switches": (wait > 0).astype(int).tolist(),
        "order": [[0, 1, 2]] * 10,
        "steal": [0] * 10,
        "waits": True,
        "first_call_ms": [20.0, 20.0, 20.0],
        "load_ms": [1.0, 1.0, 1.0],
        "warmup_iterations": 6,
        "warmup_agreed": True,
    }
    return analysis.PointBlock.from_json(value, number=number, attempt=1, threads=threads)


def test_waits_are_taken_off_where_they_hit_nearly_every_round() -> None:
    blocks = [block(i, ratio=1.1, waits=3.0) for i in range(6)]
    pair = analysis.pair(blocks, 0, 1)
    assert pair.basis == {"net of waits": 6}
    assert pair.wall.ratio == pytest.approx(1.1, rel=0.005)
    entry = analysis.entry_json("a", 0, blocks)
    assert entry["median_ms"] == pytest.approx(10, rel=0.01)
    assert entry["samples"] == 60
    assert analysis.discarded_json(blocks)["kept"] > 150


def test_with_more_threads_nothing_is_taken_off() -> None:
    blocks = [block(i, waits=3.0, threads=2) for i in range(6)]
    assert analysis.pair(blocks, 0, 1).basis == {"all": 6}
    assert analysis.entry_json("a", 0, blocks)["median_ms"] > 15


def test_undisturbed_rounds_are_used_alone_where_there_are_enough() -> None:
    blocks = [block(i) for i in range(6)]
    for item in blocks:
        item.wait_ns[:4, 0] = 30 * MS
        item.wall_ns[:4, 0] += 30 * MS
        item.steal[4] = 1
    pair = analysis.pair(blocks, 0, 1)
    assert pair.basis == {"undisturbed": 6}
    assert pair.wall.ratio == pytest.approx(1.0, abs=0.003)
    assert analysis.discarded_json(blocks) == {"preempted": 24, "steal": 18, "kept": 0}
    assert analysis.entry_json("a", 0, blocks)["samples"] == 30


def test_a_session_settles_only_with_its_control() -> None:
    result = analysis.analyse([block(i) for i in range(6)])
    assert result is not None
    assert result.settled(0.05) == "decided"
    assert not result.void(0.05)
    moved = analysis.analyse([block(i, control=1.03) for i in range(6)])
    assert moved is not None
    assert moved.void(0.05)
    assert not moved.void(0.12)


def test_a_void_attempt_is_set_aside_and_its_samples_are_kept() -> None:
    group = Group([], [OperatingPoint("onnxruntime")], margin=0.05, seed=0)
    group.blocks = [[block(i, control=1.03)] for i in range(6)]
    group.stop("decided")
    assert group.void()
    group.rerun()
    assert group.attempt == 2
    assert group.stopped is None
    assert group.blocks == []
    assert len(group.voided) == 6
    assert not group.void()


def test_a_pair_near_the_margin_says_how_many_blocks_would_decide() -> None:
    blocks = [block(i, ratio=1.05 * math.exp(0.01 * (i % 3 - 1))) for i in range(4)]
    value = analysis.pair_json(analysis.pair(blocks, 0, 1), ["a", "b", "a"], 0.05)
    assert value["blocks"] == 4
    assert value["blocks_needed"] > 4
    sure = analysis.pair_json(analysis.pair([block(i, ratio=1.5) for i in range(6)], 0, 1), ["a", "b", "a"], 0.05)
    assert sure["blocks_needed"] is None
