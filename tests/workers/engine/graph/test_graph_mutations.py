"""A small run of benchmarks/architecture_mutations.py: changes are found where they are, rewrites are no changes."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[4] / "benchmarks"))

from architecture import judge, networks
from architecture.mutations import MUTATORS, mutate
from architecture.rewrites import REWRITES, rewrite

# Together they have every operator that a mutation or a rewrite needs.
NETWORKS = ("sampler", "squeezenet1_1", "mobilenet_v3_small", "text_encoder")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("networks")
    found = []
    for name in NETWORKS:
        networks.export(*networks.build(name), folder / f"{name}.onnx")
        found.append(judge.load(name, folder / f"{name}.onnx"))
    return found


def test_single_changes_are_detected_located_and_not_multiplied(bases: list[Any], tmp_path: Path) -> None:
    rng = random.Random(1)  # noqa: S311  (reproducible draws, no secret)
    judged = []
    for change in MUTATORS:
        for base in bases:
            mutant = mutate(base.proto, change, rng)
            if mutant is not None and base.reference.differs(mutant.proto):
                result = judge.judge(base, mutant, tmp_path / "mutant.onnx")
                assert result.detected, (base.name, change, mutant.places)
                judged.append(result)
    assert len(judged) > 50
    assert sum(item.located for item in judged) >= 0.99 * len(judged)
    assert sum(len(item.differences) for item in judged) <= 1.3 * len(judged)


@pytest.mark.parametrize("kind", REWRITES)
def test_rewrites_are_no_structural_difference(bases: list[Any], tmp_path: Path, kind: str) -> None:
    rng = random.Random(2)  # noqa: S311
    made = 0
    for base in bases:
        rewritten = rewrite(base.proto, kind, rng)
        if rewritten is not None:
            made += 1
            assert base.reference.same(rewritten.proto, rewritten.elements), base.name
            found = judge.differences(base, rewritten.proto, tmp_path / "rewrite.onnx")
            assert [item for item in found if item["severity"] == "structural"] == [], base.name
    assert made
