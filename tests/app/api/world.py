"""The same things for each of several teams, all of their words marked with the team's."""

from __future__ import annotations

from typing import Any, NamedTuple

from app.db import policies
from app.db.clock import now
from app.db.key_tables import ApiKey
from app.db.schedule_tables import Schedule, ScheduledRun
from app.db.tables import (
    Audit,
    Catalog,
    Comparison,
    Dataset,
    Finding,
    Fingerprint,
    Job,
    LatencyRun,
    Listing,
    Measurement,
    Prediction,
    Structure,
    ZooIndex,
)
from app.db.upload_tables import Upload
from app.db.vetting_tables import Vetting
from app.db.webhook_tables import Webhook, WebhookDelivery, WebhookEvent
from app.domain.ids import new_id
from app.domain.plan import Scope
from app.domain.policies import POLICIES, Dimension, Policy

SCOPE = Scope((Dimension.LATENCY,), POLICIES["default"])


def marker(team):
    """Return a word that stands in all that a team has, and nowhere else."""
    return f"zq{team}zq"


class Things(NamedTuple):
    """What a team has, by the name of the path parameter that means it."""

    zoo: str
    ids: dict[str, Any]
    dataset: str
    policy: str
    ended: dict[str, Any]

    def path(self, route):
        """Return the path of a route that means these things."""
        name = self.policy if "/policies" in route else self.dataset
        ids = self.ids | self.ended if route.endswith("/events") else self.ids  # those of the others never end
        return route.format(**ids, zoo=self.zoo, name=name)


def plant(database, team, zoo, number):
    """Store one of everything for a team, with a zoo of its own, and return what there is."""
    with database.of(team).write() as session:
        return _plant(session, marker(team), zoo, number)


def _plant(session, word, zoo, number):
    def add(row):
        session.add(row)
        session.flush()
        return row.id if hasattr(row, "id") else None

    policy = {"id": str(new_id()), "name": f"{word}{number}"}
    ids = {}
    ref = f"{zoo}:{word}@v{number}"
    job = add(Job(kind="import", state="succeeded", payload=_payload(word, ref), team=session.info["team"]))
    measurement = add(
        Measurement(kind="import", key=word, subject=ref, protocol={}, environment={}, values={}, files={}, job_id=job)
    )
    dataset = Dataset(name=f"{word}{number}", format="recorded", items=1, digest=word, labels_digest=word, options={})
    add(dataset)
    numbers = {"items": 1, "top1": 1.0, "top5": None}
    made = {"dataset_id": dataset.id, "recorded": True, "job_id": job, "measurement_id": measurement}
    add(Prediction(ref=ref, **made, **numbers))
    listing = {"zoo": zoo, "name": word, "weights": f"v{number}", "architecture": word, "is_default": True}
    claims = [{"metric": "top1", "value": 0.5, "source": word}]
    listing_id = add(Listing(ref=ref, **listing, classes=2, claims=claims, runtimes=[]))
    session.merge(Structure(fingerprint=word, vector=b"\1\2", length=2.2, nodes=2))
    session.flush()
    add(Fingerprint(listing_id=listing_id, zoo=zoo, subject=ref, key=word, fingerprint=word))
    if session.get(Catalog, zoo) is None:
        add(Catalog(zoo=zoo, version=word, listings=1))
        add(ZooIndex(zoo=zoo, job_id=job))
    point = {"runtime": word, "device": "cpu", "batch": 1, "threads": 1}
    run = {"point": point, "point_key": "ab" * 32, "hardware": "cd" * 32, "fingerprint": "ef" * 32, "machine": word}
    times = {"median_ms": 1.0, "p90_ms": None, "samples": 1, "blocks": 1, "busy_beside": None, "void": False}
    add(LatencyRun(ref=ref, **run, software={}, job_id=job, measurement_id=measurement, **times))
    open_audit = add(Audit(state="queued", zoos=[word], models=[word], weights=word, scope=_scope() | {"zoos": []}))
    ended = {"models": [word], "weights": word, "scope": _scope() | {"zoos": []}, "summary": _summary()}
    audits = [add(Audit(state="succeeded", zoos=[word], **ended, finished_at=now())) for _ in range(2)]
    sides = {"a_ref": ref, "b_ref": ref, "architecture": word, "scope": _scope()}
    comparison = add(Comparison(state="queued", **sides))
    ended_comparison = add(Comparison(state="failed", **sides, finished_at=now()))
    add(Job(kind="compare", state="queued", payload={}, comparison_id=comparison, team=session.info["team"]))
    of = {"comparison_id": comparison, "architecture": word, "a_ref": ref, "b_ref": ref, "zoo_a": zoo, "zoo_b": zoo}
    judged = {"metric": word, "magnitude": 1.0, "verdict": "outside", "severity": "critical", "details": {"said": word}}
    add(Finding(dimension="latency", **of, **judged))
    schedule = add(
        Schedule(
            name=f"{word}{number}",
            cron="0 3 * * *",
            time_zone="UTC",
            missed="skip",
            enabled=False,
            request={"zoos": [word]},
        )
    )
    for each in audits:
        add(ScheduledRun(schedule_id=schedule, due_at=now(), audit_id=each, started_at=now()))
    policies.keep(session, Policy.from_json({"name": policy["name"], "accuracy_margin": 0.01}))
    vetting = add(Vetting(comparison_id=comparison, policy=POLICIES["default"].to_json() | {"name": word}))
    webhook = add(Webhook(description=word, url=f"https://{word}.example/x", events=[], enabled=True, secret=word))
    event = add(WebhookEvent(type="webhook.test", subject_id=webhook, body=word))
    delivery = add(WebhookDelivery(webhook_id=webhook, event_id=event, state="delivered"))
    key = add(
        ApiKey(
            name="k",
            team="x",
            scope="read",
            digest=new_id().hex,
            shown="zooaudit_abcdef",
            requests_per_minute=1,
            submissions_per_day=1,
        )
    )
    ids |= {"listing_id": listing_id, "import_id": job, "comparison_id": comparison, "audit_id": open_audit}
    ids |= {"ended_audit_id": audits[1], "schedule_id": schedule, "vetting_id": vetting, "webhook_id": webhook}
    upload = add(Upload(name=word, sha256=f"{number}" * 64, bytes=1))
    ids |= {"upload_id": upload, "delivery_id": delivery, "key_id": key}
    ended = {"comparison_id": ended_comparison, "audit_id": audits[1]}
    return Things(zoo, ids, dataset.name, policy["name"], ended)


def _payload(word, ref):
    return {"listing": {"ref": ref}, "dataset": word, "path": f"/{word}", "zoo": word}


def _scope():
    return SCOPE.to_json()


def _summary():
    return {"comparisons": 0, "states": {}, "verdicts": {}, "findings": {}}
