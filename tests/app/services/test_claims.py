from __future__ import annotations

import pytest

from app.db import datasets, jobs, listings, predictions
from app.db.tables import Dataset, Measurement
from app.domain.ids import new_id
from app.domain.plan import JobSpec
from app.domain.states import JobKind
from app.errors import NotFoundError
from app.services import claims


def listing(zoo, weights, *, top1=None, top5=None):
    found = [("top1", top1), ("top5", top5), ("parameters", 25.0e6)]
    return {
        "zoo": zoo,
        "name": "resnet50",
        "weights": weights,
        "ref": f"{zoo}:resnet50@{weights}",
        "architecture": "resnet50",
        "default": True,
        "label_space": "imagenet-1k",
        "classes": 1000,
        "contract": None,
        "claims": [
            {"metric": metric, "value": value, "source": "model card"} for metric, value in found if value is not None
        ],
        "licence": None,
        "runtimes": ["torch"],
    }


@pytest.fixture
def session(database):
    with database.write() as session:
        listings.replace_catalog(session, "timm", "1", [listing("timm", "a1", top1=0.804), listing("timm", "none")])
        own = [listing("keras", "imagenet", top1=0.749, top5=0.921), listing("keras", "old", top1=0.70)]
        listings.replace_catalog(session, "keras", "1", own)
        yield session


def measured(session, ref, *, top1, dataset="digits", recorded=False):
    (job_id,) = jobs.add(session, [JobSpec(f"{ref} {top1}", JobKind.PREDICT, {})]).values()
    values = {"items": 1000, "top1": top1, "top5": None}
    about = {"kind": "predict", "key": ref, "subject": ref, "protocol": {}, "environment": {}, "files": {}}
    row = Measurement(id=new_id(), values=values, job_id=job_id, **about)
    session.add(row)
    session.flush()
    found = datasets.by_name(session, dataset)
    predictions.keep(session, ref=ref, dataset=found, recorded=recorded, measured=row)


def test_claims_stand_beside_the_latest_measurement(session):
    session.add(Dataset(name="mine", format="recorded"))
    session.flush()
    measured(session, "timm:resnet50@a1", top1=0.5)
    measured(session, "timm:resnet50@a1", top1=0.8)
    measured(session, "timm:resnet50@a1", top1=0.7, dataset="mine", recorded=True)
    found = {item["ref"]: item for item in claims.of_architecture(session, "resnet50")["listings"]}
    assert set(found) == {"timm:resnet50@a1", "keras:resnet50@imagenet", "keras:resnet50@old"}
    assert found["keras:resnet50@imagenet"]["claimed"]["top5"] == {"value": 0.921, "source": "model card"}
    rows = {row["dataset"]: row for row in found["timm:resnet50@a1"]["measured"]}
    assert rows["digits"]["top1"] == 0.8
    assert rows["digits"]["top1_minus_claim"] == pytest.approx(-0.004)
    assert (rows["mine"]["recorded"], rows["mine"]["top5_minus_claim"]) == (True, None)


def test_claim_against_claim_is_across_zoos_and_the_largest_first(session):
    found = claims.of_architecture(session, "resnet50")["differences"]
    assert [(item["a_ref"], item["b_ref"], round(item["effect"], 3)) for item in found] == [
        ("keras:resnet50@old", "timm:resnet50@a1", -0.104),
        ("keras:resnet50@imagenet", "timm:resnet50@a1", -0.055),
    ]


def test_an_unknown_key_has_near_names(session):
    with pytest.raises(NotFoundError, match="Did you mean resnet50"):
        claims.of_architecture(session, "resnet5")
