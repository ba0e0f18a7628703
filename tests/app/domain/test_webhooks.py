from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import webhooks

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def test_the_signature_of_the_specification():
    # Known answer of the Standard Webhooks libraries.
    signature = webhooks.sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_a_secret_is_replaced_each_receiver_finds_its_own_signature():
    new, old = webhooks.new_secret(), webhooks.new_secret()
    assert len(base64.b64decode(new.removeprefix("whsec_"))) == 32
    sent = webhooks.headers([new, old], message_id="msg_1", timestamp=5, body=b"{}")
    assert (sent["webhook-id"], sent["webhook-timestamp"]) == ("msg_1", "5")
    expected = []
    for secret in (new, old):
        key = base64.b64decode(secret.removeprefix("whsec_"))
        expected.append("v1," + base64.b64encode(hmac.new(key, b"msg_1.5.{}", hashlib.sha256).digest()).decode())
    assert sent["webhook-signature"].split(" ") == expected


def test_delays_grow_to_an_end():
    delays = [webhooks.delay_s(attempts, draw=0.5) for attempts in range(1, webhooks.MOST_ATTEMPTS)]
    assert delays == [5, 20, 80, 320, 1280, 5120, 20480, 43200, 43200]
    assert 31 < sum(delays) / 3600 < 32, "as the docs say"
    assert webhooks.delay_s(webhooks.MOST_ATTEMPTS, draw=0.5) is None


@given(st.integers(1, webhooks.MOST_ATTEMPTS - 1), st.floats(0, 1, exclude_max=True), st.floats(0, 1e9))
def test_a_delay_is_never_shorter_than_was_asked_nor_longer_than_a_day(attempts, draw, asked):
    middle = webhooks.delay_s(attempts, draw=0.5)
    chosen = webhooks.delay_s(attempts, draw=draw, retry_after_s=asked)
    assert chosen >= min(asked, webhooks.LONGEST_RETRY_AFTER_S)
    assert 0.8 * middle <= chosen <= max(1.2 * middle, webhooks.LONGEST_RETRY_AFTER_S)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_as_seconds_or_a_date(header, seconds):
    assert webhooks.retry_after_s(header, NOW) == seconds


PUBLIC = ["8.8.8.8", "93.184.215.14", "1.1.1.1", "2606:4700::1111", "2001:4860:4860::8888", "::ffff:8.8.8.8"]
NOT_PUBLIC = """
0.0.0.0 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 169.254.169.254 172.16.0.1
172.31.255.255 192.0.0.192 192.0.2.1 192.168.1.1 198.18.0.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 ::
::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:169.254.169.254 ::127.0.0.1 64:ff9b::7f00:1
64:ff9b::a9fe:a9fe 64:ff9b:1::1 2002:7f00:1:: 2002:a9fe:a9fe::1 2001::1 2001:db8::1 fc00::1 fd00:ec2::254 fe80::1
fec0::1 ff02::1 ff0e::1
"""


def test_only_the_public_internet_unless_a_network_is_allowed():
    for text in PUBLIC:
        assert webhooks.may_go_to(ipaddress.ip_address(text), ()), text
    for text in NOT_PUBLIC.split():
        assert not webhooks.may_go_to(ipaddress.ip_address(text), ()), text
    allowed = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8"))
    for text in ("10.1.2.3", "fd00::5", "::ffff:10.1.2.3"):
        assert webhooks.may_go_to(ipaddress.ip_address(text), allowed), text
    assert not webhooks.may_go_to(ipaddress.ip_address("10.2.0.1"), allowed)


@given(st.ip_addresses())
def test_no_more_is_public_than_python_says_is_global(address):
    if webhooks.may_go_to(address, ()) and getattr(address, "ipv4_mapped", None) is None:
        assert address.is_global
