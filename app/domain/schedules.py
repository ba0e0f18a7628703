"""When a schedule comes due: cron expressions in a time zone, and what happens to due times that were missed.

The arithmetic is cronsim's, which follows Debian's cron on the two odd days of a year: a time that the clocks skip
comes due when they have been put forward, and a time that they show twice comes due once, the first time, unless the
expression's minutes or hours begin with ``*``: those keep their pace in real time.
"""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from cronsim import CronSim, CronSimError

if TYPE_CHECKING:
    from collections.abc import Iterator

ON_TIME = timedelta(minutes=1)
"""A due time that is not older than this has not been missed."""

MOST_CAUGHT_UP = 10
"""Missed due times that ``Missed.ALL`` catches up with at most: the latest ones."""

_FIELDS = 5
_FIRST_SPAN = timedelta(hours=1)
_GROWTH = 8


class InvalidScheduleError(ValueError):
    """A cron expression or a time zone that cannot be used; the message is a sentence that says why."""


class Missed(StrEnum):
    """What becomes of due times at which no audit could start: nothing was running, or the audit before still was."""

    SKIP = "skip"
    """They are passed over."""
    LATEST = "latest"
    """The latest of them is made up for, the others are passed over."""
    ALL = "all"
    """Each of them is made up for, the oldest first, one after the other; at most ``MOST_CAUGHT_UP``."""


def check(cron: str, time_zone: str) -> None:
    """Raise InvalidScheduleError unless this expression can come due in this time zone."""
    if time_zone not in _known_zones():
        raise InvalidScheduleError(
            f"There is no time zone {time_zone!r}; write an IANA name such as Europe/Berlin, America/New_York or UTC."
        )
    if len(cron.split()) != _FIELDS:
        raise InvalidScheduleError(
            f"{cron!r} is no cron expression; write five fields, minute, hour, day of month, month and day of week: "
            "0 3 * * 1 is 03:00 on Mondays."
        )
    try:
        following(cron, time_zone, datetime.now(UTC))
    except CronSimError as error:
        # "Bad minute" names the field.
        field = str(error).removeprefix("Bad ")
        raise InvalidScheduleError(
            f"The {field} of the cron expression {cron!r} cannot be read or never comes; fields are minute (0-59), "
            "hour (0-23), day of month (1-31), month (1-12) and day of week (0-7)."
        ) from error


@lru_cache(maxsize=1)
def _known_zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def following(cron: str, time_zone: str, after: datetime) -> datetime:
    """Return the first due time after a time, in UTC. Raises InvalidScheduleError when there is none in 50 years."""
    first = next(_due(cron, time_zone, after), None)
    if first is None:
        raise InvalidScheduleError(f"The cron expression {cron!r} does not come due in the next 50 years.")
    return first


def latest(cron: str, time_zone: str, *, first: datetime, until: datetime, most: int) -> list[datetime]:
    """Return the latest due times from ``first`` to ``until``, both included, at most ``most``, in order, in UTC.

    Costs as much as ``most`` asks for, however many due times there are: it looks back in steps that grow.
    """
    before_first = first - timedelta(microseconds=1)
    span = _FIRST_SPAN
    while True:
        start = max(before_first, until - span)
        found = []
        for due in _due(cron, time_zone, start):
            if due > until:
                break
            found.append(due)
        if len(found) >= most or start == before_first:
            return found[-most:]
        span *= _GROWTH


def to_run(cron: str, time_zone: str, missed: Missed, *, first: datetime, at: datetime) -> datetime | None:
    """Return the due time to run at the time ``at``, None when all that came due is passed over.

    ``first`` is the first due time that was not dealt with yet, and not later than ``at``.
    """
    most = MOST_CAUGHT_UP if missed is Missed.ALL else 1
    due = latest(cron, time_zone, first=first, until=at, most=most)
    if not due or (missed is Missed.SKIP and at - due[-1] > ON_TIME):
        return None
    return due[0]


def _due(cron: str, time_zone: str, after: datetime) -> Iterator[datetime]:
    """Yield the due times after a time, in UTC and in order."""
    start = after.astimezone(zoneinfo.ZoneInfo(time_zone))
    last = after.astimezone(UTC)
    for local in CronSim(cron, start):
        due = local.astimezone(UTC)
        # Asked in the second of the hours that clocks show twice, cronsim answers with times of the first one.
        if due > last:
            last = due
            yield due
