"""What a process of the API remembers of keys, so that most requests ask the database nothing."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.db import keys
from app.db.clock import now
from app.domain.keys import Allowance, Scope, digest, is_token
from app.domain.teams import SHARED
from app.errors import TooManyRequestsError, UnauthorizedError

if TYPE_CHECKING:
    import uuid
    from datetime import datetime

    from app.db.session import Database

REMEMBERED_S = 10.0
"""Seconds that a revoked key may still be taken for valid by a process other than the one that revoked it."""

_MOST = 10_000
"""Keys that are remembered at the same time."""

_PARTS = 20
"""Into how many parts what is left of an allowance is divided; a process takes one at a time."""

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="zooaudit"'}
_INVALID = {"WWW-Authenticate": 'Bearer realm="zooaudit", error="invalid_token"'}


@dataclass(frozen=True)
class Known:
    """Who asks: a key as its row says; ``id`` None is whoever is on this machine while there are no keys."""

    id: uuid.UUID | None
    team: str
    scope: Scope
    limits: dict[Allowance, int]
    expires_at: datetime | None = None
    revoked: bool = False


NOBODY = Known(None, SHARED, Scope.ADMIN, {})


@dataclass
class _Share:
    """A process's part of an allowance in the present window; ``ends`` by the monotonic clock, seconds."""

    ends: float = 0.0
    left: int = 0
    used: int = 0
    empty: bool = False
    fetching: threading.Lock = field(default_factory=threading.Lock)

    def is_spent(self) -> bool:
        """Whether more has to be fetched before anything can be said."""
        return self.ends <= time.monotonic() or not (self.left or self.empty)


class Keyring:
    """The keys of one database. Methods that may ask it say so; the others take no time. Safe for several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database.of(None)
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Known]] = {}
        self._shares: dict[tuple[uuid.UUID, Allowance], _Share] = {}
        self._any: tuple[float, bool] = (-math.inf, False)

    def forget(self) -> None:
        """Look everything up again: this process has changed a key."""
        with self._lock:
            self._known.clear()
            self._any = (-math.inf, False)

    def remembers_any(self) -> bool | None:
        """Whether keys exist; None when that has to be looked up (``any_exist``)."""
        at, found = self._any
        # Keys are never deleted, so what was found stays.
        return found if found or time.monotonic() - at < REMEMBERED_S else None

    def any_exist(self) -> bool:
        """Whether keys exist. Asks the database."""
        with self._database.read() as session:
            found = keys.any_exist(session)
        self._any = (time.monotonic(), found)
        return found

    def remembered(self, token: str) -> Known | None:
        """Return a key that was looked up lately."""
        at, known = self._known.get(digest(token), (-math.inf, None))
        return known if time.monotonic() - at < REMEMBERED_S else None

    def look_up(self, token: str) -> Known:
        """Return a key. Asks the database; raises UnauthorizedError for what is none."""
        named = digest(token)
        row = None
        if is_token(token):
            with self._database.read() as session:
                row = keys.by_digest(session, named)
        if row is None:
            raise UnauthorizedError("There is no such API key; ask for one.", slug="unknown-key", headers=_INVALID)
        limits = {Allowance.REQUESTS: row.requests_per_minute, Allowance.SUBMISSIONS: row.submissions_per_day}
        known = Known(row.id, row.team, Scope(row.scope), limits, row.expires_at, row.revoked_at is not None)
        with self._lock:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[named] = (time.monotonic(), known)
        return known

    def take(self, known: Known, allowance: Allowance) -> bool:
        """Take one of an allowance; False when more has to be fetched first. Raises TooManyRequestsError."""
        if known.id is None:
            return True
        with self._lock:
            share = self._shares.setdefault((known.id, allowance), _Share())
            left_s = share.ends - time.monotonic()
            if left_s <= 0:
                share.left, share.used, share.empty = 0, 0, False
            elif share.left:
                share.left -= 1
                return True
            if share.empty:
                raise _too_many(known, allowance, left_s)
        return False

    def fetch(self, known: Known, allowance: Allowance) -> None:
        """Take a part of what is left of an allowance, for this process. Asks the database.

        Parts shrink with what is left, so that little lies idle in one process while another has none. Of requests that
        come here at once the first takes a part for all.
        """
        assert known.id is not None  # noqa: S101 - nobody has no allowance
        limit = known.limits[allowance]
        share = self._shares[known.id, allowance]
        with share.fetching:
            if not share.is_spent():
                return
            amount = max(1, (limit - share.used) // _PARTS)
            with self._database.write() as session:
                taken = keys.take(session, known.id, allowance, amount)
            with self._lock:
                share.ends = time.monotonic() + taken.left_s
                share.used = taken.used
                share.left += max(0, min(amount, limit - (taken.used - amount)))
                share.empty = share.left == 0

    def give_back(self, known: Known, allowance: Allowance) -> None:
        """Return one that was taken for nothing."""
        if known.id is not None:
            with self._lock:
                self._shares[known.id, allowance].left += 1


def check_valid(known: Known) -> None:
    """Raise UnauthorizedError for a key that was revoked or has expired."""
    if known.revoked:
        raise UnauthorizedError("This API key was revoked; ask for another.", slug="revoked-key", headers=_INVALID)
    if known.expires_at is not None and known.expires_at <= now():
        when = f"{known.expires_at:%Y-%m-%d}"
        said = f"This API key expired on {when}; ask for another."
        raise UnauthorizedError(said, slug="expired-key", headers=_INVALID)


def no_key() -> UnauthorizedError:
    """Return the error of a request that names no key."""
    said = "This service wants an API key: send it as `Authorization: Bearer zooaudit_…`."
    return UnauthorizedError(said, slug="no-key", headers=_CHALLENGE)


def _too_many(known: Known, allowance: Allowance, left_s: float) -> TooManyRequestsError:
    wait = max(1, math.ceil(left_s))
    per = "requests a minute" if allowance is Allowance.REQUESTS else "submissions a day"
    return TooManyRequestsError(
        f"This key has used its {known.limits[allowance]:,} {per}; try again in {wait} s, or ask for a higher limit.",
        slug=f"too-many-{allowance}",
        headers={"Retry-After": str(wait)},
    )
