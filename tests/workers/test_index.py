"""An index of a zoo with planted faults, by a real worker."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from app.db import jobs
from app.db.paging import Selection
from app.db.tables import Listing
from app.services import indexes, similar

BUILT = {"tiny", "wide", "raises", "aborts"}
"""The others take long to fail, and fail alike in every kind of job."""


@pytest.fixture
def with_planted(quick):
    return quick.model_copy(update={"local_zoos": (Path(__file__).parent / "planted",)})


def work(supervisor, database):
    while claim := supervisor.claim_next("cpu"):
        if claim.payload.get("listing", {}).get("name", "tiny") in BUILT:
            supervisor.run(claim)
            continue
        with database.write() as session:
            jobs.finish_cancelled(session, claim)


def test_an_index_fingerprints_what_can_be_built_and_says_why_the_rest_cannot(supervisor, database, with_planted):
    with database.write() as session:
        indexes.submit(session, with_planted, "planted", retry=False)
    work(supervisor, database)
    with database.read() as session:
        shown = indexes.show(session, with_planted, "planted")
        failed = indexes.failures(session, with_planted, "planted", Selection(limit=50))["items"]
        listing_id = session.scalar(select(Listing.id).where(Listing.ref == "planted:tiny@none"))
        found = similar.of_listing(session, listing_id, zoo=None, limit=10)
    assert (shown["indexed"], shown["structures"], shown["failed"]) == (2, 2, 2)
    reasons = {item["built"]: item["error"]["message"] for item in failed}
    assert reasons.keys() == {"planted:raises@none", "planted:aborts@none"}
    assert "the builder divides by nothing" in reasons["planted:raises@none"]
    assert "SIGABRT" in reasons["planted:aborts@none"]
    ((name, same, near),) = [(item["name"], item["same_structure"], item["similarity"]) for item in found["items"]]
    assert (name, same) == ("wide", False)
    assert 0.5 < near < 1


def test_a_zoo_whose_catalog_cannot_be_read_has_no_index_and_says_why(supervisor, database, quick, tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "zoo.toml").write_text('name = "broken"\n[models.x]\nframework = "abacus"\n')
    settings = quick.model_copy(update={"local_zoos": (folder,)})
    with database.write() as session:
        indexes.submit(session, settings, "broken", retry=False)
    while claim := supervisor.claim_next("cpu"):
        supervisor.run(claim)
    with database.read() as session:
        shown = indexes.show(session, settings, "broken")
    assert shown["state"] == "failed"
    assert "broken" in shown["error"]["message"]
