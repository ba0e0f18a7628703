"""What webhooks are told, by real senders to real servers on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from app.db.clock import now
from app.db.webhook_tables import Webhook, WebhookAttempt, WebhookEvent
from app.domain.webhooks import LASTING_FAILURE, MOST_ATTEMPTS
from app.services import webhooks

ROOT = Path(__file__).parents[3]
WAIT_S = 30.0


def test_an_ended_comparison_is_told_once_and_signed(receiver, office):
    look = office.sender()
    webhook = office.add(receiver.url)
    other = office.add(receiver.url, events=("audit.ended",))
    comparison_id = office.end_one()
    look()
    look()
    ((path, headers, body),) = receiver.requests
    assert (path, headers["host"], headers["content-type"]) == (
        "/hook",
        f"127.0.0.1:{receiver.port}",
        "application/json",
    )
    assert office.verified(webhook["secret"], headers, body)
    assert not office.verified(other["secret"], headers, body)
    message = json.loads(body)
    assert message["type"] == "comparison.ended"
    assert message["data"] == {
        "id": str(comparison_id),
        "state": "failed",
        "verdict": None,
        "a": {"ref": "x:net"},
        "b": {"ref": "y:net"},
        "links": {"comparison": f"https://audits.example.com/v1/comparisons/{comparison_id}"},
    }
    (delivery,) = office.deliveries(webhook)
    assert (delivery["state"], delivery["message_id"]) == ("delivered", headers["webhook-id"])
    assert [(each["status"], each["error"]) for each in delivery["attempts"]] == [(204, None)]
    assert office.deliveries(other) == []


def test_what_was_not_committed_is_not_told(receiver, office):
    look = office.sender()
    office.add(receiver.url)
    office.end_one(commit=False)
    look()
    assert receiver.requests == []
    with office.database.read() as session:
        assert session.scalar(select(func.count()).select_from(WebhookEvent)) == 0


def test_failures_are_tried_again_with_the_same_message(receiver, office):
    look = office.sender()
    receiver.answers = [500, 502, 200]
    webhook = office.add(receiver.url)
    office.end_one()
    look()
    look()
    assert len(receiver.requests) == 1, "not before it is due"
    for _ in range(2):
        office.come_due()
        look()
    assert len({(headers["webhook-id"], body) for _, headers, body in receiver.requests}) == 1
    assert all(office.verified(webhook["secret"], headers, body) for _, headers, body in receiver.requests)
    (delivery,) = office.deliveries(webhook)
    assert delivery["state"] == "delivered"
    said = [(each["number"], each["status"], each["error"]) for each in delivery["attempts"]]
    assert said == [(1, 500, "The receiver answered 500."), (2, 502, "The receiver answered 502."), (3, 200, None)]
    assert office.show(webhook)["failing_since"] is None


def waits(delivery):
    """Return the seconds from a delivery's last attempt to its next."""
    last = datetime.fromisoformat(delivery["attempts"][-1]["started_at"])
    return (datetime.fromisoformat(delivery["next_attempt_at"]) - last).total_seconds()


def test_retry_after_is_waited_for(receiver, office):
    look = office.sender()
    receiver.answers = [(503, {"Retry-After": "600"})]
    webhook = office.add(receiver.url)
    office.end_one()
    look()
    assert waits(office.deliveries(webhook)[0]) == pytest.approx(600, abs=5)


def test_a_delivery_fails_after_the_last_attempt_and_can_be_asked_for_again(receiver, office):
    look = office.sender()
    receiver.answers = [500] * MOST_ATTEMPTS
    webhook = office.add(receiver.url)
    office.end_one()
    for _ in range(MOST_ATTEMPTS + 2):
        look()
        office.come_due()
    (delivery,) = office.deliveries(webhook)
    assert (delivery["state"], len(delivery["attempts"])) == ("failed", MOST_ATTEMPTS)
    with office.database.write() as session:
        webhooks.redeliver(session, uuid.UUID(webhook["id"]), delivery_id=uuid.UUID(delivery["id"]))
    look()
    (again,) = office.deliveries(webhook)
    assert (again["state"], len(again["attempts"])) == ("delivered", MOST_ATTEMPTS + 1)
    assert len({headers["webhook-id"] for _, headers, _ in receiver.requests}) == 1


def test_lasting_failure_disables_with_a_reason_and_enabling_sends_what_waited(receiver, office):
    look = office.sender()
    receiver.answers = [500, 500]
    webhook = office.add(receiver.url)
    office.end_one()
    look()
    with office.database.write() as session:
        session.execute(update(Webhook).values(failing_since=now() - LASTING_FAILURE))
    office.come_due()
    look()
    shown = office.show(webhook)
    assert shown["enabled"] is False
    assert shown["disabled_reason"].startswith("No message has been accepted since")
    assert "answered 500" in shown["disabled_reason"]
    office.end_one()
    office.come_due()
    look()
    assert len(receiver.requests) == 2, "nothing goes to a disabled webhook"
    with office.database.write() as session:
        webhooks.change(session, office.settings, uuid.UUID(webhook["id"]), {"enabled": True})
    look()
    assert [each["state"] for each in office.deliveries(webhook)] == ["delivered"]


def test_a_receiver_that_is_gone_disables_its_webhook_at_once(receiver, office):
    look = office.sender()
    receiver.answers = [410]
    webhook = office.add(receiver.url)
    office.end_one()
    look()
    shown = office.show(webhook)
    assert (shown["enabled"], office.deliveries(webhook)[0]["state"]) == (False, "failed")
    assert "410" in shown["disabled_reason"]


def test_a_slow_receiver_keeps_no_other_from_its_message(receiver, office):
    look = office.sender()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        slow = office.add(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        quick = office.add(receiver.url)
        for _ in range(3):
            office.end_one()
        look()
    assert [each["state"] for each in office.deliveries(quick)] == ["delivered"] * 3
    assert {each["state"] for each in office.deliveries(slow)} == {"pending"}


def test_senders_side_by_side_send_each_message_once(receiver, office):
    webhook = office.add(receiver.url)
    for _ in range(12):
        office.end_one()
    looks = [office.sender() for _ in range(4)]
    threads = [threading.Thread(target=look) for look in looks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    looks[0]()
    assert [each["state"] for each in office.deliveries(webhook)] == ["delivered"] * 12
    ids = [headers["webhook-id"] for _, headers, _ in receiver.requests]
    assert len(ids) == len(set(ids)) == 12


@pytest.mark.slow
def test_a_sender_killed_in_the_middle_leaves_its_message_to_another(receiver, office):
    held = threading.Event()
    receiver.answers = [lambda _: held.wait(WAIT_S) and 200]
    webhook = office.add(receiver.url)
    office.end_one()
    environment = {
        **os.environ,
        "ZOOAUDIT_DATA_DIR": str(office.settings.data_dir),
        "ZOOAUDIT_DATABASE_URL": office.settings.url,
        "ZOOAUDIT_WEBHOOK_NETWORKS": "127.0.0.1/32",
        "ZOOAUDIT_WEBHOOK_HTTP": "true",
        "ZOOAUDIT_WEBHOOK_TIMEOUT_S": "30",
    }
    process = subprocess.Popen([sys.executable, "-m", "workers.scheduler"], env=environment, cwd=ROOT)
    try:
        deadline = time.monotonic() + WAIT_S
        while not receiver.requests:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finally:
        process.kill()
        held.set()
    look = office.sender()
    look()
    assert len(receiver.requests) == 1, "the dead sender still has its time"
    office.come_due()
    look()
    (delivery,) = office.deliveries(webhook)
    assert delivery["state"] == "delivered"
    said = [(each["number"], each["status"], each["error"]) for each in delivery["attempts"]]
    assert said == [(1, None, "Its sender ended before the answer came."), (2, 204, None)]
    first, second = receiver.requests
    assert (first[1]["webhook-id"], first[2]) == (second[1]["webhook-id"], second[2])
    with office.database.read() as session:
        assert session.scalar(select(func.count()).select_from(WebhookAttempt)) == 2
