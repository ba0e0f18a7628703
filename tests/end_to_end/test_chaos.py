"""A small run of benchmarks/chaos_run.py, its faults at chosen moments: every job ends once, and nothing is left."""

from __future__ import annotations

import sys
import time
from itertools import combinations
from pathlib import Path
from random import Random

import pytest

from app.db.session import Database

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from chaos import site as sites
from chaos import verify, work
from chaos.faults import Faults

FAULTS = ("worker with its group", "flush", "reaper", "broker", "Postgres, at once", "worker")
IMPORTS = 4
LIMIT_S = 90.0

pytestmark = pytest.mark.slow


@pytest.fixture
def site():
    with sites.production(lease_s=2.0, max_attempts=6, workers=2) as running:
        yield running


@pytest.fixture
def database(site):
    opened = Database(site.settings.url)
    verify.watch_states(opened)
    yield opened
    opened.dispose()


def others(folder):
    """Return comparisons of the imports, and one of files, which is three jobs: one for each fault."""
    networks = [work.write_network(folder / f"n{channels}.onnx", channels) for channels in (4, 8)]
    request = {"a": networks[0], "b": networks[1], "dimensions": ["architecture"]}
    pairs = [work.comparison(*pair) for pair in combinations(range(IMPORTS), 2)]
    return [work.Case("architecture", request, frozenset({"succeeded"})), *pairs][: len(FAULTS)]


def test_every_job_ends_once_whatever_dies(site, database):
    random = Random(1)  # noqa: S311
    client, faults = work.Client(site.settings, database), Faults(site, random, every_s=0.0)
    deadline = time.monotonic() + LIMIT_S

    def until(true):
        while not true():
            assert time.monotonic() < deadline
            site.keep(random)
            time.sleep(0.02)

    cases = [*work.first_imports(site.folder)[:IMPORTS], *others(site.folder)]
    for case in cases[:IMPORTS]:
        client.submit(case)
    until(lambda: not client.open_jobs())
    for case, kind in zip(cases[IMPORTS:], FAULTS, strict=True):
        client.submit(case)
        until(client.running_jobs)
        faults.do(kind)
    until(lambda: not client.open_jobs())
    site.settle(random)
    assert site.stop() <= 8
    assert [sites.words(process) for process in (*faults.orphans, *site.left_over())] == []
    found = verify.figures(database, site.settings, cases)
    told = verify.wrong(database, cases)
    assert {name: found[name] for name in verify.WRONG if found.get(name)} == {}, told
