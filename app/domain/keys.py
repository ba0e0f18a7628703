"""API keys: how one is made and recognised, and what its scope allows."""

from __future__ import annotations

import hashlib
import re
import secrets
from enum import StrEnum

PREFIX = "zooaudit_"
"""Begins every key, so that people and scanners for leaked secrets recognise one."""

_MINUTE_S, _DAY_S = 60, 86400
_SHOWN = len(PREFIX) + 6
_SECRET_BYTES = 32
_TOKEN = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")


class Scope(StrEnum):
    """What a key may do: each of ``read``, ``submit`` and ``admin`` includes those before it.

    ``metrics`` is apart: it reads ``/metrics``, which counts every team's jobs, and nothing else.
    """

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"
    METRICS = "metrics"

    def allows(self, needed: Scope) -> bool:
        """Whether a key of this scope may do what needs another."""
        return needed in _INCLUDED[self]


_INCLUDED = {
    Scope.READ: {Scope.READ},
    Scope.SUBMIT: {Scope.READ, Scope.SUBMIT},
    Scope.ADMIN: set(Scope),
    Scope.METRICS: {Scope.METRICS},
}


class Allowance(StrEnum):
    """What of a key is counted, in windows of fixed length that begin with a minute or a day of UTC."""

    REQUESTS = "requests"
    SUBMISSIONS = "submissions"

    @property
    def window_s(self) -> int:
        """Length of a window, seconds."""
        return _MINUTE_S if self is Allowance.REQUESTS else _DAY_S


def new_token() -> str:
    """Return a new key: 256 random bits after the prefix."""
    return PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def is_token(text: str) -> bool:
    """Whether a text has the form of a key."""
    return _TOKEN.fullmatch(text) is not None


def digest(token: str) -> str:
    """Return what is stored of a key: its SHA-256.

    A slow hash protects secrets that can be guessed. This one has 256 random bits, so that no list of guesses holds it,
    and each request has to find it again: by an index, in microseconds.
    """
    return hashlib.sha256(token.encode()).hexdigest()


def shown(token: str) -> str:
    """Return the beginning of a key, by which its owner tells it from others."""
    return token[:_SHOWN]


def without_tokens(text: str) -> str:
    """Return a text with the keys in it cut short: for logs, should one be put where it does not belong."""
    return _TOKEN.sub(lambda found: f"{shown(found.group())}…", text)
