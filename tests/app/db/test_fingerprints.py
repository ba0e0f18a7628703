from __future__ import annotations

import pytest
from sqlalchemy import select, update

from app.db import fingerprints, jobs, listings
from app.db.fingerprints import Structured
from app.db.paging import Selection
from app.db.tables import Fingerprint, Job, Listing, Measurement, Structure
from app.domain.ids import new_id
from app.domain.plan import Subject
from app.domain.states import JobKind, State
from app.errors import ConflictError, InvalidError, NotFoundError
from app.services import indexes, similar


def listing(zoo, name, weights="v1", *, classes=1000, size=224, architecture=None):
    return {
        "zoo": zoo,
        "name": name,
        "weights": weights,
        "ref": f"{zoo}:{name}@{weights}",
        "architecture": architecture or name,
        "default": weights == "v1",
        "label_space": None,
        "classes": classes,
        "contract": {"height": size, "width": size, "colour": "rgb", "layout": "nchw"},
        "claims": [],
        "licence": None,
        "runtimes": ["torch"],
    }


TAGS = [
    listing("timm", "resnet50"),
    listing("timm", "resnet50", "v2"),
    listing("timm", "resnet50", "none"),
    listing("timm", "resnet50", "in21k", classes=21841),
    listing("timm", "vit", size=224),
    listing("timm", "vit", "large", size=384),
]


@pytest.fixture
def timm(database):
    with database.write() as session:
        listings.replace_catalog(session, "timm", "1", TAGS)


def key_of(subject):
    return f"key of {subject.ref}"


def expand(database, settings, *, retry=False, key_of=key_of):
    """Ask for an index and expand it as a worker would; return the structure jobs' payloads by reference."""
    with database.write() as session:
        indexes.submit(session, settings, "timm", retry=retry)
        session.execute(update(Job).where(Job.kind == JobKind.CATALOG).values(state=State.SUCCEEDED))
        job_id = session.scalar(select(Job.id).where(Job.kind == JobKind.INDEX, Job.state == State.QUEUED))
    with database.write() as session:
        claim = jobs.claim(session, job_id, worker="w", places={"cpu": "h"}, lease_s=60)
        fingerprints.expand(session, claim, zoo="timm", folder=None, retry=retry, key_of=key_of)
        jobs.succeed(session, claim)
    with database.read() as session:
        needed = jobs.needs(session, job_id).values()
        structures = [job.payload for job in needed if job.kind == JobKind.STRUCTURE]
        return {payload["listing"]["ref"]: payload["alike"] for payload in structures}


def measured(session, ref, found, *, alike=None):
    """Store a structure as a worker does, behind a job and a measurement."""
    (job_id,) = jobs.add(session, [fingerprints.spec(subject(ref), [ref])]).values()
    row = Measurement(
        id=new_id(),
        kind="structure",
        key=f"key of {ref}",
        subject=ref,
        protocol={},
        environment={},
        values={},
        files={},
        job_id=job_id,
    )
    session.add(row)
    session.flush()
    fingerprints.keep(session, alike or [ref], subject=ref, key=f"key of {ref}", found=found, measurement_id=row.id)
    session.execute(update(Job).where(Job.id == job_id).values(state=State.SUCCEEDED))


def subject(ref):
    zoo, _, rest = ref.partition(":")
    name, _, weights = rest.partition("@")
    return Subject(ref, zoo, name, weights)


def failing(session, ref, failure_class):
    error = {"class": failure_class, "code": "planted", "message": f"{ref} cannot be built."}
    fingerprints.keep_error(session, [ref], subject=ref, key=f"key of {ref}", error=error)


@pytest.mark.usefixtures("timm")
def test_weights_tags_of_one_architecture_are_one_job_built_without_weights(database, settings):
    assert expand(database, settings) == {
        "timm:resnet50@none": ["timm:resnet50@none", "timm:resnet50@v1", "timm:resnet50@v2"],
        "timm:resnet50@in21k": ["timm:resnet50@in21k"],
        "timm:vit@v1": ["timm:vit@v1"],
        "timm:vit@large": ["timm:vit@large"],
    }


@pytest.mark.usefixtures("timm")
def test_a_later_index_does_only_what_is_missing(database, settings):
    group = ["timm:resnet50@none", "timm:resnet50@v1", "timm:resnet50@v2"]
    with database.write() as session:
        measured(session, "timm:resnet50@none", Structured("f" * 64, [1] * 8, 3), alike=group)
        failing(session, "timm:vit@v1", "subject")
        failing(session, "timm:vit@large", "transient")
    # What failed for a reason that may pass is tried again; what cannot be built only when asked for.
    assert set(expand(database, settings)) == {"timm:resnet50@in21k", "timm:vit@large"}


@pytest.mark.usefixtures("timm")
def test_failures_are_tried_again_when_asked_for(database, settings):
    with database.write() as session:
        failing(session, "timm:vit@v1", "subject")
    assert "timm:vit@v1" in expand(database, settings, retry=True)


@pytest.mark.usefixtures("timm")
def test_another_version_of_the_zoo_or_the_protocol_is_measured_again(database, settings):
    with database.write() as session:
        measured(session, "timm:vit@v1", Structured("f" * 64, [1] * 8, 3))
    assert "timm:vit@v1" in expand(database, settings, key_of=lambda subject: f"new key of {subject.ref}")


@pytest.mark.usefixtures("timm")
def test_state_and_counts_of_an_index(database, settings):
    with database.read() as session, pytest.raises(NotFoundError, match="zooaudit index --zoo timm"):
        indexes.show(session, settings, "timm")
    expand(database, settings)
    with database.read() as session:
        shown = indexes.show(session, settings, "timm")
    assert (shown["state"], shown["listings"], shown["indexed"]) == ("running", 6, 0)
    assert shown["progress"]["total"] - shown["progress"]["done"] == 4
    with database.write() as session:
        measured(session, "timm:vit@v1", Structured("f" * 64, [1] * 8, 3))
        measured(session, "timm:vit@large", Structured("f" * 64, [1] * 8, 3))
        failing(session, "timm:resnet50@in21k", "subject")
        session.execute(update(Job).where(Job.kind == JobKind.STRUCTURE).values(state=State.SUCCEEDED))
    with database.read() as session:
        shown = indexes.show(session, settings, "timm")
        (failure,) = indexes.failures(session, settings, "timm", Selection(limit=10))["items"]
    assert (shown["state"], shown["indexed"], shown["structures"], shown["failed"]) == ("succeeded", 2, 1, 1)
    assert shown["failures"] == {"planted": 1}
    assert (failure["built"], failure["error"]["message"]) == (
        "timm:resnet50@in21k",
        "timm:resnet50@in21k cannot be built.",
    )


@pytest.mark.usefixtures("timm")
def test_a_cancelled_index_keeps_what_is_done_and_what_others_wait_for(database, settings):
    expand(database, settings)
    with database.write() as session:
        measured(session, "timm:vit@v1", Structured("f" * 64, [1] * 8, 3))
    with database.write() as session:
        assert indexes.cancel(session, settings, "timm")["state"] == "cancelled"
        assert indexes.cancel(session, settings, "timm")["indexed"] == 1
    # What was left is added again by the next index.
    assert set(expand(database, settings)) == {"timm:resnet50@none", "timm:resnet50@in21k", "timm:vit@large"}


@pytest.mark.usefixtures("timm")
def test_an_index_that_has_ended_cannot_be_cancelled(database, settings):
    expand(database, settings)
    with database.write() as session:
        session.execute(update(Job).values(state=State.SUCCEEDED))
    with database.write() as session, pytest.raises(ConflictError, match="ended already"):
        indexes.cancel(session, settings, "timm")


def test_an_unknown_zoo_and_a_bare_file_cannot_be_indexed(database, settings):
    with database.write() as session:
        with pytest.raises(InvalidError, match="Did you mean timm"):
            indexes.submit(session, settings, "tim", retry=False)
        with pytest.raises(InvalidError, match="bare file is no zoo"):
            indexes.submit(session, settings, "file", retry=False)


@pytest.mark.usefixtures("timm")
def test_a_listing_that_its_zoo_drops_loses_its_fingerprint_and_no_other(database):
    with database.write() as session:
        measured(session, "timm:vit@v1", Structured("a" * 64, [1] * 8, 3))
        measured(session, "timm:resnet50@v1", Structured("b" * 64, [2] * 8, 3))
    with database.write() as session:
        listings.replace_catalog(session, "timm", "2", [TAGS[0]])
    with database.read() as session:
        assert [row.subject for row in session.scalars(select(Fingerprint))] == ["timm:resnet50@v1"]
        # Nobody has the other structure any more, so that no search finds it.
        assert [fingerprint for fingerprint, _ in fingerprints.vectors(session, None)] == ["b" * 64]
        assert len(session.scalars(select(Structure)).all()) == 2


@pytest.fixture
def zoos(database):
    """Two zoos: a twin under another name, a namesake with another structure, and something far away."""
    with database.write() as session:
        timm = [listing("timm", "resnet50"), listing("timm", "resnet50", "v2"), listing("timm", "far")]
        keras = [listing("keras", "Twin", architecture="twin"), listing("keras", "ResNet50", architecture="resnet50")]
        listings.replace_catalog(session, "timm", "1", timm)
        listings.replace_catalog(session, "keras", "1", keras)
        same = Structured("a" * 64, [100, 10, 0, 0], 3)
        measured(session, "timm:resnet50@v1", same, alike=["timm:resnet50@v1", "timm:resnet50@v2"])
        measured(session, "keras:Twin@v1", same)
        measured(session, "keras:ResNet50@v1", Structured("b" * 64, [90, 30, 10, 0], 3))
        measured(session, "timm:far@v1", Structured("c" * 64, [0, 0, 0, 100], 3))
        return {row.ref: row.id for row in session.scalars(select(Listing))}


def test_a_twin_under_another_name_and_a_namesake_of_another_structure_are_found(database, zoos):
    with database.read() as session:
        found = similar.of_listing(session, zoos["timm:resnet50@v1"], zoo=None, limit=10)
    assert [(item["ref"], item["same_structure"]) for item in found["items"]] == [
        ("keras:Twin@v1", True),
        ("keras:ResNet50@v1", False),
        ("timm:far@v1", False),
    ]
    assert [item["similarity"] for item in found["items"]] == [1.0, pytest.approx(0.970, abs=1e-3), 0.0]
    assert [item["ref"] for item in found["namesakes"]] == ["keras:ResNet50@v1"]
    assert found["searched"] == {"structures": 3, "zoos": ["keras", "timm"]}


def test_a_search_in_one_zoo_and_with_a_limit(database, zoos):
    with database.read() as session:
        found = similar.of_listing(session, zoos["keras:Twin@v1"], zoo="timm", limit=1)
    (item,) = found["items"]
    assert (item["name"], item["weights"], item["ref"]) == ("resnet50", ["v1", "v2"], "timm:resnet50@v1")
    assert found["namesakes"] == []


def test_what_has_no_fingerprint_says_why(database, zoos):
    with database.write() as session:
        failing(session, "timm:far@v1", "subject")
    with database.read() as session:
        with pytest.raises(ConflictError, match="timm:far@v1 cannot be built"):
            similar.of_listing(session, zoos["timm:far@v1"], zoo=None, limit=10)
        with pytest.raises(NotFoundError, match="There is no listing"):
            similar.of_listing(session, new_id(), zoo=None, limit=10)


@pytest.mark.usefixtures("timm")
def test_a_listing_that_was_not_indexed_says_how_to(database):
    with database.read() as session:
        listing_id = session.scalar(select(Listing.id))
        with pytest.raises(ConflictError, match="/v1/zoos/timm/index"):
            similar.of_listing(session, listing_id, zoo=None, limit=10)
