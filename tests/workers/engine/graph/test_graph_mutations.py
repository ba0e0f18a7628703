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
SMALL = ("sampler", "segmenter", "text_encoder", "text_decoder", "mobilenet_v3_small")
LARGE = ("inception_v3", "convnext_tiny", "efficientnet_b0", "vit_b_16")

pytestmark = pytest.mark.xdist_group("mutations")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


def load(name: str, folder: Path) -> Any:
    # A small picture keeps the vision transformer's run short.
    networks.export(*networks.build(name, 64 if name == "vit_b_16" else None), folder / f"{name}.onnx")
    return judge.load(name, folder / f"{name}.onnx")


@pytest.fixture(scope="module")
def bases(folder: Path) -> list[Any]:
    return [load(name, folder) for name in SMALL]


def judged(base: Any, change: str, rng: random.Random, folder: Path) -> list[Any]:
    mutant = mutate(base.proto, change, rng)
    if mutant is None or not base.reference.differs(mutant.proto):
        return []
    result = judge.judge(base, mutant, folder / "mutant.onnx")
    assert result.detected, (base.name, change, mutant.places)
    return [(change, result)]


def test_single_changes_are_detected_located_and_not_multiplied(bases: list[Any], tmp_path: Path) -> None:
    rng = random.Random(1)  # noqa: S311  (reproducible draws, no secret)
    found = [item for change in MUTATORS for base in bases for item in judged(base, change, rng, tmp_path)]
    assert {change for change, _ in found} == set(MUTATORS)
    attention = [result for change, result in found if change in {"heads", "attention_scale", "mask"}]
    assert {len(result.differences) for result in attention} == {1}
    assert sum(result.located for _, result in found) >= 0.99 * len(found)
    assert sum(len(result.differences) for _, result in found) <= 1.3 * len(found)


@pytest.mark.parametrize("name", LARGE)
def test_changes_and_rewrites_of_a_large_network(name: str, folder: Path, tmp_path: Path) -> None:
    base, rng = load(name, folder), random.Random(3)  # noqa: S311
    results = [item for change in rng.sample(sorted(MUTATORS), 6) for item in judged(base, change, rng, tmp_path)]
    assert results
    assert all(result.located for _, result in results)
    made = 0
    for kind in rng.sample(sorted(REWRITES), 5):
        rewritten = rewrite(base.proto, kind, rng)
        if rewritten is not None:
            made += 1
            found = judge.differences(base, rewritten.proto, tmp_path / "rewrite.onnx")
            assert [item for item in found if item["severity"] == "structural"] == [], kind
    assert made


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
