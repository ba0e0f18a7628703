from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

from sqlalchemy import select, update

from app.db import migrate, policies
from app.db.vetting_tables import PolicyVersion
from app.domain.policies import POLICIES, Policy

OURS = Policy("ours", accuracy_margin=0.01)


def kept(database, policy):
    with database.write() as session:
        row, created = policies.keep(session, policy)
        return row.version, created


def test_only_other_content_makes_a_version(database):
    assert kept(database, OURS) == (1, True)
    assert kept(database, OURS) == (1, False)
    other = replace(OURS, accuracy_margin=0.02)
    assert kept(database, other) == (2, True)
    assert kept(database, OURS) == (3, True), "back again is a change too"
    with database.read() as session:
        assert [row.version for row in policies.versions(session, "ours")] == [3, 2, 1]
        assert policies.policy_of(policies.get(session, "ours")) == replace(OURS, version=3)
        assert policies.policy_of(policies.get(session, "ours", 2)) == replace(other, version=2)
        assert policies.get(session, "ours", 4) is None


def test_versions_that_are_added_at_once_are_one_each(database):
    at_once = Barrier(4)

    def add(margin):
        with database.write() as session:
            if database.engine.dialect.name == "postgresql":
                at_once.wait(timeout=20)  # SQLite lets one writer in at a time
            return policies.keep(session, replace(OURS, accuracy_margin=margin))[0].version

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(add, [0.01, 0.01, 0.02, 0.03]))
    with database.read() as session:
        stored = [row.version for row in policies.versions(session, "ours")]
    assert stored == list(range(len(stored), 0, -1))
    assert set(found) <= set(stored)
    assert len(stored) in {3, 4}


def test_what_ships_is_stored_and_follows_the_code(database):
    with database.read() as session:
        assert policies.names(session) == sorted(POLICIES)
        assert policies.missing_shipped(session) == []
    with database.write() as session:
        content = POLICIES["default"].content() | {"accuracy_margin": 0.1}
        session.execute(update(PolicyVersion).where(PolicyVersion.name == "default").values(content=content))
    migrate.upgrade(database)
    migrate.upgrade(database)
    with database.read() as session:
        rows = session.scalars(select(PolicyVersion).where(PolicyVersion.name == "default"))
        assert sorted(row.version for row in rows) == [1, 2]
        assert policies.policy_of(policies.get(session, "default")) == replace(POLICIES["default"], version=2)
