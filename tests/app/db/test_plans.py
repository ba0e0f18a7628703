from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import structlog
from sqlalchemy import event, text

from app.db.session import Database

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def _loaded(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def filled(postgres):
    """Yield the URL of a database filled as the load benchmark does it, at a hundredth of the size."""
    load_fill = _loaded("load_fill")
    url, admin = postgres
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE filled"))
    database = Database(url("filled"))
    load_fill.fill(database, load_fill.Size(listings=1000, comparisons=3000))
    database.dispose()
    yield url("filled")
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE filled WITH (FORCE)"))


@pytest.mark.slow
def test_every_query_of_the_load_benchmark_has_its_indexes(filled, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    load_queries = _loaded("load_queries")

    # So few rows are read at once whatever indexes there are: without that choice an index must serve.
    def without_scans(connection, _record):
        connection.execute("SET enable_seqscan = off")
        connection.commit()

    from sqlalchemy import Engine

    before = structlog.get_config()
    event.listen(Engine, "connect", without_scans)
    try:
        database = Database(filled)
        with database.read() as session:
            asked = load_queries.queries(session)
        scanned = load_queries.plans(filled, asked, load_queries.a_key(database, load_queries.TEAM))
        database.dispose()
    finally:
        event.remove(Engine, "connect", without_scans)
        structlog.configure(**before)  # the benchmark's own says errors alone
    assert len(asked) >= 35
    assert {name: tables for name, tables in scanned.items() if tables} == {}
