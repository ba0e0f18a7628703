"""A run of benchmarks/hostile_files.py: no payload runs, every file gets its reason, the worker goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from hostile import builders, containers, field, networks, pickles

from workers.engines import EngineChoice

CASES = [*pickles.CASES, *networks.CASES, *containers.CASES, *builders.CASES]
QUICK = [case for case in CASES if case.route in {"file", "keras", "code"} and not case.slow]
LONG = [case for case in CASES if case not in QUICK]

pytestmark = [
    pytest.mark.usefixtures("database_url"),
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
    pytest.mark.xdist_group("hostile files"),
]


@pytest.fixture
def ground(tmp_path, quick, database, engines):
    settings = quick.model_copy(update={"confinement": "require", "engine_disk_bytes": 64 * 2**20})
    return field.Field(tmp_path, settings, database, engines, tmp_path / "torch")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Engines that read a cache of torch hub of their own."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home") / "torch"
        patch.setenv("TORCH_HOME", str(home))
        engines = EngineChoice()
        yield engines, home
        engines.close()


def check(case, outcome, quick):
    assert not outcome.ran, "the payload ran"
    assert outcome.state == "failed"
    assert outcome.code in case.codes, outcome.message
    assert field.empty(quick.data_dir)


def test_the_payload_works_where_nothing_keeps_it(tmp_path):
    assert field.control(tmp_path)


def test_no_hostile_file_runs_and_each_gets_its_reason(ground, quick, subtests):
    # Builders first: they warm the template, which the others then fork from.
    for case in sorted(QUICK, key=lambda case: case.route):
        with subtests.test(case.name):
            check(case, ground.send(case), quick)


@pytest.mark.slow
def test_no_hostile_file_runs_that_takes_its_time(tmp_path, quick, database, cache, subtests):
    engines, home = cache
    settings = quick.model_copy(update={"confinement": "require", "engine_disk_bytes": 64 * 2**20})
    ground = field.Field(tmp_path, settings.model_copy(update={"engine_processes": 200}), database, engines, home)
    for case in LONG:
        with subtests.test(case.name):
            check(case, ground.send(case), quick)
