from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from sqlalchemy import delete, exists, func, insert, select, text, update
from sqlalchemy.orm import aliased

from app.db import datasets, jobs, policies, teams
from app.db.tables import Base, Dataset, Finding, Job, Listing
from app.db.teams import Owned, UnfilteredError, as_team
from app.domain.plan import JobSpec
from app.domain.policies import Policy
from app.domain.states import JobKind
from app.errors import ConflictError, ForbiddenError
from app.services import zoos
from app.settings import Settings

NOT_OWNED = {
    "catalogs": "found by the name of a zoo that the team sees",
    "zoo_indexes": "found by the name of a zoo that the team sees",
    "structures": "found from the fingerprint of a listing that the team sees",
    "artifacts": "found by the bytes of a model that the team has, or from what it sees",
    "measurements": "found from a job, or by a key that only who may know what was measured can make",
    "jobs": "shared work; its team is checked by jobs.get",
    "job_needs": "found from jobs",
    "idempotency_keys": "found by the key that asked",
    "listing_versions": "found from an audit that the team sees",
    "audit_listings": "found from an audit that the team sees",
    "api_keys": "read by keys of scope admin",
    "key_uses": "read by keys of scope admin",
    "activity": "read by keys of scope admin",
    "unsafe_listings": "found by the reference of a listing that the team sees",
    "webhook_events": "found from a delivery",
    "webhook_deliveries": "found from a webhook that the team sees",
    "webhook_attempts": "found from a delivery",
    "scheduled_runs": "found from a schedule or an audit that the team sees",
}
"""Tables that the filter of teams leaves alone, and why nothing of another team is found in them."""


def test_every_table_is_a_teams_or_says_why_not():
    for module in Path(teams.__file__).parent.glob("*tables.py"):
        import_module(f"app.db.{module.stem}")
    owned = {mapper.local_table.name for mapper in Base.registry.mappers if issubclass(mapper.class_, Owned)}
    assert owned | NOT_OWNED.keys() == Base.metadata.tables.keys(), "a new table is Owned, or stands in NOT_OWNED"
    assert not owned & NOT_OWNED.keys()


@pytest.fixture
def named(database):
    """Data sets of two teams and a shared one; return ``(database, names)``."""
    for team in ("red", "blue", "shared"):
        with database.of(team).write() as session:
            session.add(Dataset(name=f"of-{team}", format="folder", path="/x", options={}))
    return database


def test_no_form_of_a_statement_finds_another_teams_rows(named):
    other = aliased(Dataset)
    listed = select(Dataset.name).order_by(Dataset.name)
    with named.of("red").read() as session:
        visible = ["digits", "of-red", "of-shared"]
        assert list(session.scalars(listed)) == visible
        assert [row.name for row in session.scalars(select(other).order_by(other.name))] == visible
        inner = listed.subquery()
        assert list(session.scalars(select(inner.c.name))) == visible
        step = select(Dataset.name).cte()
        assert sorted(session.scalars(select(step.c.name))) == visible
        assert session.scalar(select(func.count()).select_from(Dataset)) == 3
        assert session.scalar(select(select(func.count(Dataset.id)).scalar_subquery())) == 3
        assert session.scalar(select(exists().where(Dataset.name == "of-blue"))) is False
        same = select(Dataset.name).where(exists().where(other.id == Dataset.id, other.name == "of-blue"))
        assert session.scalars(same).all() == []
        assert session.scalars(select(Job.id).where(Job.id.in_(select(Dataset.id)))).all() == []
    with named.read() as session:
        assert "of-blue" in session.scalars(listed).all(), "a session of nobody in particular sees everything"
        hidden = session.scalar(select(Dataset.id).where(Dataset.name == "of-blue"))
    with named.of("red").read() as session:
        assert session.get(Dataset, hidden) is None


def test_a_team_changes_nothing_but_its_own(named):
    def rename(name):
        return update(Dataset).where(Dataset.name == name).values(path="/y").returning(Dataset.name)

    red = named.of("red")
    with red.write() as session:
        assert session.scalars(rename("of-red")).all() == ["of-red"]
        assert session.scalars(rename("of-blue")).all() == []
    for statement in (rename("of-shared"), delete(Dataset).where(Dataset.name == "of-shared"), delete(Dataset)):
        with pytest.raises(ForbiddenError, match="team shared"), red.write() as session:
            session.execute(statement)
    for change in ("path", "team"):
        with pytest.raises(ForbiddenError), red.write() as session:
            setattr(datasets.by_name(session, "of-shared"), change, "blue")
    with pytest.raises(ForbiddenError), red.write() as session:
        session.delete(datasets.by_name(session, "of-shared"))
    with pytest.raises(ForbiddenError), red.write() as session:
        session.add(Dataset(name="theirs", team="blue", format="folder", path="/x", options={}))
    with named.read() as session:
        assert session.scalars(select(Dataset.path).where(Dataset.path == "/y")).all() == ["/y"]


def test_statements_that_the_filter_cannot_reach_are_refused(named):
    row = {"name": "n", "format": "folder", "options": {}}
    for statement in (
        text("SELECT name FROM datasets"),
        select(Dataset.__table__.c.name),
        insert(Dataset).values(**row),
    ):
        with named.of("red").write() as session, pytest.raises(UnfilteredError):
            session.execute(statement)


def test_each_team_has_names_of_its_own_and_they_come_first(named):
    def add(team, name):
        with named.of(team).write() as session:
            datasets.add(session, Dataset(name=name, format="folder", path=f"/{team}", options={}))

    add("red", "photos")
    add("blue", "photos")
    add("shared", "photos")
    for name in ("photos", "of-shared"):
        with pytest.raises(ConflictError):
            add("red", name)
    for team in ("red", "blue", "shared"):
        with named.of(team).read() as session:
            assert datasets.by_name(session, "photos").path == f"/{team}"
    with named.of("green").read() as session:
        assert datasets.by_name(session, "photos").path == "/shared"
        assert "team" not in datasets.by_name(session, "photos").spec()


def test_versions_of_a_policy_count_within_a_team(database):
    for team, margin in (("shared", 0.01), ("red", 0.02), ("red", 0.03), ("blue", 0.01)):
        with database.of(team).write() as session:
            policies.keep(session, Policy.from_json({"name": "ours", "accuracy_margin": margin}))
    newest = {}
    for team in ("shared", "red", "blue", "green"):
        with database.of(team).read() as session:
            row = policies.get(session, "ours")
            newest[team] = (row.team, row.version, row.content["accuracy_margin"])
    assert newest == {
        "shared": ("shared", 1, 0.01),
        "red": ("red", 2, 0.03),
        "blue": ("blue", 1, 0.01),
        "green": ("shared", 1, 0.01),
    }


def test_what_any_team_may_know_is_one_job_and_the_rest_is_each_teams(database):
    open_to_all = JobSpec("inspect", JobKind.INSPECT, {}, work_key="inspect timm:x", team="shared")
    own = JobSpec("file", JobKind.INSPECT, {}, work_key="inspect file:/x")
    found = {}
    for team in ("red", "blue", "red"):
        with database.of(team).write() as session:
            found.setdefault(team, []).append(jobs.add(session, [open_to_all, own]))
    assert found["red"][0] == found["red"][1]
    assert found["red"][0]["inspect"] == found["blue"][0]["inspect"]
    assert found["red"][0]["file"] != found["blue"][0]["file"]
    with database.of("blue").read() as session:
        assert jobs.get(session, found["red"][0]["file"]) is None
        assert jobs.get(session, found["red"][0]["inspect"]).team == "shared"


def test_a_zoo_may_be_one_teams(database, tmp_path):
    (tmp_path / "zoo.toml").write_text('name = "secret"\nteam = "red"\n')
    settings = Settings(local_zoos=(tmp_path,))
    for team, seen in (("red", True), ("blue", False), (None, True)):
        with database.of(team).read() as session:
            assert ("secret" in zoos.known(session, settings)) is seen


def test_a_zoo_that_changes_hands_takes_its_listings_along(database):
    from app.db import listings

    row = {"zoo": "z", "name": "m", "weights": "w", "ref": "z:m@w", "architecture": None, "default": True}
    row |= {"label_space": None, "classes": None, "contract": None, "claims": [], "licence": None, "runtimes": []}
    for team in ("shared", "red", "blue"):
        with database.of(team).write() as session:
            listings.replace_catalog(session, "z", "1", [row])
        with database.read() as session:
            assert session.scalars(select(Listing.team)).all() == [team]


def test_a_session_can_work_for_a_team_meanwhile(named):
    with named.write() as session:
        with as_team(session, "red"):
            assert datasets.by_name(session, "of-blue") is None
            session.add(Dataset(name="new", format="folder", path="/x", options={}))
        assert datasets.by_name(session, "of-blue") is not None
        assert datasets.by_name(session, "new").team == "red"


def test_lists_stay_index_scans_for_a_team(postgres_url):
    # The filter leaves the order of a list to its index: no sort, no sequential scan.
    from app.db.session import Database

    database = Database(postgres_url)
    with database.write() as session:
        session.execute(
            text(
                "INSERT INTO audits (id, team, state, zoos, models, weights, scope, created_at) VALUES "
                "(gen_random_uuid(), 'shared', 's', '[]', '[]', '', '{}', now())"
            )
        )
        session.execute(
            text(
                "INSERT INTO comparisons (id, team, state, a_ref, b_ref, scope, created_at) "
                "VALUES (gen_random_uuid(), 'shared', 's', 'a', 'b', '{}', now())"
            )
        )
        session.execute(
            text(
                "INSERT INTO findings (id, team, comparison_id, a_ref, b_ref, zoo_a, zoo_b, dimension, metric, "
                "magnitude, verdict, severity, details, created_at) SELECT gen_random_uuid(), "
                "CASE WHEN n % 1000 = 0 THEN 'red' WHEN n % 2 = 0 THEN 'shared' ELSE 'blue' END, "
                "c.id, 'a', 'b', 'x', 'y', 'latency', 'm', random(), 'outside', 'critical', '{}', now() "
                "FROM generate_series(1, 20000) n, comparisons c"
            )
        )
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE findings"))
        plan = "\n".join(
            connection.scalars(
                text(
                    "EXPLAIN SELECT * FROM findings WHERE team IN ('shared', 'red') AND dimension = 'latency' "
                    "ORDER BY magnitude DESC, id DESC LIMIT 51"
                )
            )
        )
        assert "ix_findings_dimension_magnitude_id" in plan, plan
        assert "Seq Scan" not in plan, plan
        few = "\n".join(connection.scalars(text("EXPLAIN SELECT count(*) FROM findings WHERE team = 'red'")))
        assert "ix_findings_team" in few, few
    assert Finding.__table__.c.team.server_default is not None
    database.dispose()
