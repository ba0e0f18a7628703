from __future__ import annotations

import json
import time
import uuid

import redis

from app.queue import ENOUGH, ring
from app.settings import Settings


def test_a_ring_is_one_message_a_job_on_its_devices_queue(redis_url, tmp_path):
    ids = [uuid.uuid4(), uuid.uuid4()]
    assert ring(Settings(data_dir=tmp_path, broker_url=redis_url), {"cpu": ids}) == 2
    with redis.Redis.from_url(redis_url) as client:
        messages = [json.loads(message) for message in client.lrange("cpu", 0, -1)]
    assert {message["headers"]["task"] for message in messages} == {"zooaudit.run"}
    assert {message["headers"]["argsrepr"] for message in messages} == {f"['{job_id}']" for job_id in ids}


def test_no_more_wait_than_are_enough_to_bring_workers(redis_url, tmp_path):
    settings = Settings(data_dir=tmp_path, broker_url=redis_url)
    assert ring(settings, {"cpu": [uuid.uuid4() for _ in range(ENOUGH - 1)]}) == ENOUGH - 1
    more = [uuid.uuid4() for _ in range(3)]
    assert ring(settings, {"cpu": more, "cuda": more}) == 1 + len(more), "each queue has its own"
    with redis.Redis.from_url(redis_url) as client:
        assert (client.llen("cpu"), client.llen("cuda")) == (ENOUGH, len(more))
        client.lpop("cpu", 2)
        assert ring(settings, {"cpu": more}) == 2


def test_without_a_broker_nothing_is_rung(tmp_path):
    assert ring(Settings(data_dir=tmp_path), {"cpu": [uuid.uuid4()]}) == 0


def test_a_broker_that_is_gone_is_not_an_error(tmp_path):
    assert ring(Settings(data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0"), {"cpu": [uuid.uuid4()]}) == 0
    start = time.monotonic()  # Celery is imported by now
    assert ring(Settings(data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0"), {"cpu": [uuid.uuid4()]}) == 0
    assert time.monotonic() - start < 1
