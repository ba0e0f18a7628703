from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import IntegrityError

from app.db import migrate, policies
from app.db.clock import now
from app.db.schedule_tables import AuditListing, ListingVersion, Schedule, ScheduledRun
from app.db.session import Database
from app.db.tables import Audit, Base, Dataset
from app.domain.ids import new_id
from app.domain.policies import POLICIES

ROOT = Path(__file__).parents[3]
UPGRADE = "import sys; from app.db import migrate, session; migrate.upgrade(session.Database(sys.argv[1]))"


def test_models_and_migrations_agree(database):
    config = migrate._config()
    with migrate.locked(database) as connection:
        config.attributes["connection"] = connection
        command.check(config)


def test_upgrade_down_and_up_again(database):
    config = migrate._config()
    with migrate.locked(database) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert set(inspect(database.engine).get_table_names()) == {"alembic_version"}
    migrate.upgrade(database)
    assert set(Base.metadata.tables) < set(inspect(database.engine).get_table_names())
    assert migrate.current(database) == migrate.head()


def test_the_built_in_data_set_is_there_once(database):
    migrate.upgrade(database)
    with database.read() as session:
        assert [row.name for row in session.scalars(select(Dataset))] == ["digits"]


def test_a_data_set_from_before_options_has_none(database):
    config = migrate._config()
    with database.write() as session:
        session.add(Dataset(name="old", format="folder", path="/old", options={}))
    with migrate.locked(database) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
    migrate.upgrade(database)
    with database.read() as session:
        found = session.scalars(select(Dataset).order_by(Dataset.name))
        assert [(row.name, row.options) for row in found] == [("digits", {}), ("old", {})]


def test_audits_outlive_the_tables_of_schedules(database):
    config = migrate._config()
    with database.write() as session:
        audit = Audit(id=new_id(), state="succeeded", zoos=[], models=[], weights="none", scope={})
        schedule = Schedule(
            id=new_id(), name="s", cron="* * * * *", time_zone="UTC", missed="skip", enabled=False, request={}
        )
        version = ListingVersion(digest="0" * 64, ref="x:a", described={})
        session.add_all([audit, schedule, version])
        session.flush()
        session.add(ScheduledRun(schedule_id=schedule.id, due_at=now(), started_at=now(), audit_id=audit.id))
        session.add(AuditListing(audit_id=audit.id, digest=version.digest))
    with migrate.locked(database) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0005")
    migrate.upgrade(database)
    with database.read() as session:
        assert session.scalar(select(Audit.id)) == audit.id
        assert session.scalar(select(Schedule.id)) is None


def test_without_policies_what_ships_comes_back(database):
    config = migrate._config()
    with migrate.locked(database) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0005")
    assert not {"policies", "vettings"} & set(inspect(database.engine).get_table_names())
    migrate.upgrade(database)
    with database.read() as session:
        assert policies.names(session) == sorted(POLICIES)


def test_processes_that_migrate_at_once_do_it_once(tmp_path):
    url = f"sqlite:///{tmp_path / 'new.db'}"
    calls = [
        subprocess.Popen([sys.executable, "-c", UPGRADE, url], env=os.environ | {"PYTHONPATH": str(ROOT)})
        for _ in range(2)
    ]
    assert [call.wait(timeout=60) for call in calls] == [0, 0]
    database = Database(url)
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1
    database.dispose()


def test_what_teams_have_outlives_the_teams(database):
    config = migrate._config()
    for team in ("shared", "red", "blue"):
        with database.of(team).write() as session:
            session.add(Dataset(name="photos", format="folder", path=f"/{team}", options={}))
            session.add(Audit(id=new_id(), state="succeeded", zoos=[team], models=[], weights="none", scope={}))
    with database.write() as session:
        session.add(Dataset(name="photos-red", format="folder", path="/taken", options={}))
    with migrate.locked(database) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0016")
    with database.engine.begin() as connection:
        names = connection.scalars(text("SELECT name FROM datasets WHERE format = 'folder' ORDER BY name")).all()
        assert names == ["photos", "photos-blue", "photos-red", "photos-red-2"]
        added = "INSERT INTO datasets (id, name, format, options, created_at) VALUES (:id, 'old', 'npz', '{}', :at)"
        connection.execute(text(added), {"id": new_id().hex, "at": "2026-01-01"})
    migrate.upgrade(database)
    with database.read() as session:
        assert set(session.scalars(select(Audit.team))) == {"shared"}
        assert set(session.scalars(select(Dataset.team))) == {"shared"}


def test_a_migration_that_leaves_a_reference_to_nothing_is_undone(database):
    config = migrate._config()
    job = {"id": new_id().hex, "job": new_id().hex}
    orphan = "INSERT INTO job_needs (job_id, role, needs_id) VALUES (:job, 'a', :id)"
    if database.engine.dialect.name != "sqlite":
        with pytest.raises(IntegrityError), database.engine.begin() as connection:
            connection.execute(text(orphan), job)
        return
    with migrate.locked(database) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0015")
        connection.execute(text(orphan), job)  # while nothing sees to it, as in a migration
        connection.commit()
    with pytest.raises(RuntimeError, match="of table job_needs refers to a row of jobs that is not there"):
        migrate.upgrade(database)
    assert migrate.current(database) == "0015"
    assert "unsafe_listings" not in inspect(database.engine).get_table_names()
    with pytest.raises(IntegrityError), database.engine.begin() as connection:
        connection.execute(text(orphan), job | {"job": new_id().hex})


def test_what_a_later_version_migrated_stays_as_it_is(database, lines):
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    migrate.upgrade(database)
    assert migrate.current(database) == "9999"
    assert [(line["level"], line["database"]) for line in lines() if "database" in line] == [("warning", "9999")]
