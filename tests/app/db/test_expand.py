from __future__ import annotations

import pytest
from sqlalchemy import select, update

from app.db import audits, comparisons, datasets, jobs, listings
from app.db.tables import Audit, Comparison, Job, Listing
from app.domain.states import FailureClass, JobKind
from app.errors import ConflictError
from app.services import audits as service


def listing(zoo, name, *, weights="v1", architecture=None, default=True, space="imagenet-1k"):
    return {
        "zoo": zoo,
        "name": name,
        "weights": weights,
        "ref": f"{zoo}:{name}@{weights}",
        "architecture": architecture or name,
        "default": default,
        "label_space": space,
        "classes": 1000,
        "contract": None,
        "claims": [],
        "licence": None,
        "runtimes": ["onnxruntime"],
    }


@pytest.fixture
def catalogs(database):
    with database.write() as session:
        for zoo in ("torchvision", "timm", "keras"):
            found = [listing(zoo, name) for name in ("alexnet", "resnet50", "vgg16")]
            found.append(listing(zoo, "resnet50", weights="none", default=False))
            listings.replace_catalog(session, zoo, "1", found)
        listings.replace_catalog(session, "onnx", "1", [listing("onnx", "digits_net", architecture="vgg16", space="x")])


def audit(database, settings, **request):
    with database.write() as session:
        submitted = service.submit(session, settings, {"zoos": ["torchvision", "timm"], **request})
        session.execute(update(Job).where(Job.kind == JobKind.CATALOG).values(state="succeeded"))
        audits.expand(session, submitted.id)
    return submitted.id


def read(database, audit_id):
    with database.read() as session:
        found = session.scalars(select(Comparison).where(Comparison.audit_id == audit_id).order_by(Comparison.id)).all()
        return session.get_one(Audit, audit_id), list(found), list(session.scalars(select(Job)))


@pytest.mark.usefixtures("catalogs")
def test_every_pair_of_a_key_is_compared_and_each_listing_measured_once(database, settings):
    audit_id = audit(database, settings, zoos=["torchvision", "timm", "keras"], models=["resnet*", "alexnet"])
    _, found, all_jobs = read(database, audit_id)
    assert [row.architecture for row in found] == ["alexnet"] * 3 + ["resnet50"] * 3
    kinds = [job.kind for job in all_jobs]
    assert (kinds.count("inspect"), kinds.count("latency"), kinds.count("compare")) == (6, 2, 6)
    assert (kinds.count("conclude"), kinds.count("predict")) == (1, 0)
    with database.read() as session:
        last = next(job.id for job in all_jobs if job.kind == "conclude")
        assert {job.kind for job in jobs.needs(session, last).values()} == {"compare"}
        assert len(jobs.needs(session, last)) == 6


@pytest.mark.usefixtures("catalogs")
def test_listings_without_the_weights_asked_for_are_left_out(database, settings):
    _, found, _ = read(database, audit(database, settings, weights="none"))
    assert [(row.a_ref, row.b_ref) for row in found] == [("timm:resnet50@none", "torchvision:resnet50@none")]


@pytest.mark.usefixtures("catalogs")
def test_expanding_twice_adds_nothing(database, settings):
    audit_id = audit(database, settings)
    before = len(read(database, audit_id)[2])
    with database.write() as session:
        assert audits.expand(session, audit_id) == []
    assert len(read(database, audit_id)[2]) == before


@pytest.mark.usefixtures("catalogs")
def test_accuracy_is_left_out_with_a_reason_where_a_side_has_other_classes(database, settings):
    with database.write() as session:
        from app.services import datasets as data

        data.add(session, {"name": "val", "format": "folder", "path": "/val", "label_space": "imagenet-1k"})
    request = {"zoos": ["torchvision", "timm", "onnx"], "models": ["vgg16"], "dataset": "val"}
    _, found, all_jobs = read(database, audit(database, settings, **request))
    with_accuracy = [row for row in found if "accuracy" in row.scope["dimensions"]]
    assert [{row.a_ref, row.b_ref} for row in with_accuracy] == [{"torchvision:vgg16@v1", "timm:vgg16@v1"}]
    for row in found:
        if row not in with_accuracy:
            assert "onnx:digits_net@v1 has the label space x" in row.scope["errors"]["accuracy"]["message"]
    predicted = {job.payload["listing"]["ref"] for job in all_jobs if job.kind == "predict"}
    assert predicted == {"torchvision:vgg16@v1", "timm:vgg16@v1"}


@pytest.mark.usefixtures("catalogs")
def test_an_audit_that_matches_nothing_fails_with_near_names(database, settings):
    row, found, _ = read(database, audit(database, settings, models=["resnet5"]))
    assert (row.state, row.error["code"], found) == ("failed", "no-match", [])
    assert "Did you mean resnet50" in row.error["message"]


def test_an_audit_fails_with_the_catalogs_reason(database, settings):
    with database.write() as session:
        submitted = service.submit(session, settings, {"zoos": ["torchvision", "timm"]})
        for _ in range(2):
            claim = jobs.claim_next(session, worker="w", device="cpu", places={"cpu": "h"}, lease_s=30)
            jobs.fail(session, claim, FailureClass.SUBJECT, {"message": "it broke."}, max_attempts=1)
        audits.expand(session, submitted.id)
    row, _, _ = read(database, submitted.id)
    assert (row.state, row.error["code"]) == ("failed", "no-catalog")
    assert row.error["message"].endswith("it broke.")


@pytest.mark.usefixtures("catalogs")
def test_concluding_counts(database, settings):
    audit_id = audit(database, settings)
    with database.write() as session:
        for row in session.scalars(select(Comparison)).all():
            comparisons.fail(session, row.id, {"class": "subject", "code": "x", "message": "y"})
        audits.conclude(session, audit_id)
    row, _, _ = read(database, audit_id)
    assert row.state == "succeeded"
    assert row.summary == {
        "comparisons": 3,
        "states": {"failed": 3},
        "verdicts": {},
        "findings": {},
        "accuracy_groups": [],
    }


def test_a_catalog_keeps_the_ids_of_what_stays(database):
    with database.write() as session:
        listings.replace_catalog(session, "timm", "1", [listing("timm", "a"), listing("timm", "b")])
        before = {row.ref: row.id for row in session.scalars(select(Listing))}
        changed = listing("timm", "b") | {"classes": 7}
        listings.replace_catalog(session, "timm", "2", [changed, listing("timm", "c")])
        after = {row.ref: row for row in session.scalars(select(Listing))}
        assert set(after) == {"timm:b@v1", "timm:c@v1"}
        assert (after["timm:b@v1"].id, after["timm:b@v1"].classes) == (before["timm:b@v1"], 7)
        catalog = listings.catalogs(session)["timm"]
        assert (catalog.version, catalog.listings) == ("2", 2)


def test_a_data_set_that_changes_is_a_conflict(database):
    fact = {"items": 360, "classes": 10, "labels_digest": "labels-x", "label_space": "digits"}
    with database.write() as session:
        datasets.fill(session, "digits", digest="a" * 64, **fact)
        datasets.fill(session, "digits", digest="a" * 64, **fact)
        with pytest.raises(ConflictError, match=f"there were 360 .*{'a' * 12}….* 350 with {'b' * 12}…") as raised:
            datasets.fill(session, "digits", digest="b" * 64, **(fact | {"items": 350}))
    assert raised.value.extra["expected"] == {"items": 360, "digest": "a" * 64}
    assert raised.value.extra["seen"] == {"items": 350, "digest": "b" * 64}
