"""Webhooks: what is told, how it is signed, when it is tried again, and where it may not go.

The messages follow the Standard Webhooks specification (https://www.standardwebhooks.com), so that its libraries verify
them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import secrets
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Event(StrEnum):
    """What a webhook may ask to be told of."""

    COMPARISON_ENDED = "comparison.ended"
    """A comparison that was asked for by itself; those of an audit are told of by its end."""
    AUDIT_ENDED = "audit.ended"
    AUDIT_DRIFTED = "audit.drifted"
    """An audit of a schedule that is not as the one before of the same schedule."""
    VETTING_ENDED = "vetting.ended"


TEST = "webhook.test"
"""Type of a message that was asked for to see whether it arrives."""


class DeliveryState(StrEnum):
    """Where the delivery of one event to one webhook stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


MOST_ATTEMPTS = 10
"""Attempts after which a delivery has failed."""
FIRST_DELAY_S = 5.0
LONGEST_DELAY_S = 12 * 3600.0
JITTER = 0.2
"""Share by which a delay is longer or shorter at random, so that what failed together does not come back together."""
LONGEST_RETRY_AFTER_S = 24 * 3600.0
LASTING_FAILURE = timedelta(days=1)
"""Time without a success, failing, after which a webhook is disabled. Ten attempts last about 31 hours."""

_SECRET = "whsec_"  # noqa: S105 - what the specification begins every secret with
_SECRET_BYTES = 32


def new_secret() -> str:
    """Return a new secret: ``whsec_`` and the Base64 of 32 random bytes."""
    return _SECRET + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def sign(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature ``v1,<Base64>`` of a message, HMAC-SHA256 over ``id.timestamp.body``."""
    key = base64.b64decode(secret.removeprefix(_SECRET))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def headers(valid: Sequence[str], *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the three headers of a message, signed with each secret that is valid now, the newest first."""
    signatures = [sign(secret, message_id=message_id, timestamp=timestamp, body=body) for secret in valid]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def delay_s(attempts: int, *, draw: float, retry_after_s: float | None = None) -> float | None:
    """Return the seconds until the next attempt after so many failed ones; None when there is no next one.

    5 s, 20 s, 80 s, and so on, four times as long each time, up to 12 h. ``draw`` in [0, 1) makes it up to a fifth
    longer or shorter. What the receiver asked for with ``Retry-After`` is waited for too, up to a day.
    """
    if attempts >= MOST_ATTEMPTS:
        return None
    own: float = min(FIRST_DELAY_S * 4.0 ** (attempts - 1), LONGEST_DELAY_S) * (1 + JITTER * (2 * draw - 1))
    return max(own, min(retry_after_s or 0.0, LONGEST_RETRY_AFTER_S))


def retry_after_s(header: str | None, at: datetime) -> float | None:
    """Read ``Retry-After``, seconds or a date (RFC 9110, 10.2.3); None when there is none that can be read."""
    text = (header or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - at).total_seconds())


_NEVER = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT, and the metadata of one cloud (100.100.100.200)
            "127.0.0.0/8",
            "168.63.129.16/32",  # the metadata of another, at a public address
            "169.254.0.0/16",  # link-local, and the metadata of most
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
_PUBLIC_6 = ipaddress.ip_network("2000::/3")
_NEVER_6 = tuple(map(ipaddress.ip_network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_CARRIES_4 = (
    # Networks whose addresses end with the IPv4 address that they stand for.
    ipaddress.ip_network("::ffff:0:0/96"),  # mapped
    ipaddress.ip_network("::ffff:0:0:0/96"),  # translated
    ipaddress.ip_network("64:ff9b::/96"),  # NAT64
)


def may_go_to(address: Address, allowed: Collection[Network]) -> bool:
    """Whether a message may be sent to an address: one of the public Internet, or of a network that was allowed.

    Loopback, private, link-local, shared (CGNAT), multicast, reserved and 6to4 addresses and those at which clouds
    answer with a machine's credentials are not public. An IPv6 address that stands for an IPv4 address is judged as
    that.
    """
    if any(address in network for network in allowed):
        return True
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NEVER)
    if any(address in network for network in _CARRIES_4):
        return may_go_to(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF), allowed)
    return address in _PUBLIC_6 and not any(address in network for network in _NEVER_6)


def failing_too_long(since: datetime, at: datetime) -> bool:
    """Whether a webhook that has failed since a time without a success is to be disabled."""
    return at - since >= LASTING_FAILURE
