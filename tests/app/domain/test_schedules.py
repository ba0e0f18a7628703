from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.schedules import MOST_CAUGHT_UP, InvalidScheduleError, Missed, check, following, latest, to_run

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu")
MINUTE = timedelta(minutes=1)


def local(zone, *parts, fold=0):
    return datetime(*parts, tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


def due(cron, zone, after, number):
    times = []
    for _ in range(number):
        after = following(cron, zone, after)
        times.append(after)
    return times


def shown(times, zone=BERLIN):
    return [time.astimezone(zone).strftime("%d %H:%M %Z") for time in times]


def test_a_skipped_time_comes_due_once_when_the_clocks_have_been_put_forward():
    after = local("Europe/Berlin", 2026, 3, 28, 12)
    assert shown(due("30 2 * * *", "Europe/Berlin", after, 2)) == ["29 03:00 CEST", "30 02:30 CEST"]


def test_a_time_shown_twice_comes_due_once():
    after = local("Europe/Berlin", 2026, 10, 24, 12)
    assert shown(due("30 2 * * *", "Europe/Berlin", after, 2)) == ["25 02:30 CEST", "26 02:30 CET"]


def test_a_pace_stays_what_it_is_while_the_clocks_change():
    spring = due("*/30 * * * *", "Europe/Berlin", local("Europe/Berlin", 2026, 3, 29, 1), 6)
    autumn = due("*/30 * * * *", "Europe/Berlin", local("Europe/Berlin", 2026, 10, 25, 1), 6)
    for times in (spring, autumn):
        assert {later - earlier for earlier, later in itertools.pairwise(times)} == {timedelta(minutes=30)}


def test_made_in_the_second_hour_of_two_nothing_is_due_in_the_past():
    after = local("Europe/Berlin", 2026, 10, 25, 2, 10, fold=1)
    assert shown([following("30 2 * * *", "Europe/Berlin", after)]) == ["26 02:30 CET"]


@pytest.mark.parametrize("missed", Missed)
def test_a_daily_schedule_runs_once_on_each_odd_day_however_it_is_looked_at(missed):
    """A scheduler that looks every minute, across both changes of the clocks."""
    for month, day in ((3, 28), (10, 24)):
        at = local("Europe/Berlin", 2026, month, day, 0)
        next_due, ran = following("30 2 * * *", "Europe/Berlin", at), []
        for _ in range(3 * 24 * 60):
            at += MINUTE
            if next_due <= at:
                picked = to_run("30 2 * * *", "Europe/Berlin", missed, first=next_due, at=at)
                ran.append(picked)
                next_due = following("30 2 * * *", "Europe/Berlin", picked)
        assert [time.astimezone(BERLIN).day for time in ran] == [day, day + 1, day + 2]


@given(
    cron=st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "15,45 1-3 * * *", "0 */6 * * 1", "0 0 1 * *"]),
    zone=st.sampled_from(ZONES),
    start=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 - hypothesis wants naive bounds
    part=st.floats(0, 0.99),
)
@settings(max_examples=300, deadline=None)
def test_due_times_do_not_depend_on_where_one_starts_to_look(cron, zone, start, part):
    times = due(cron, zone, start.replace(tzinfo=UTC), 12)
    assert times == sorted(set(times))
    assert all(time.second == time.microsecond == 0 for time in times)
    for earlier, later in itertools.pairwise(times):
        assert following(cron, zone, earlier + part * (later - earlier)) == later
    for most in (1, 3, 50):
        assert latest(cron, zone, first=times[0], until=times[-1], most=most) == times[-most:]


def test_what_was_missed_is_skipped_made_up_for_or_caught_up_with():
    first = datetime(2026, 5, 1, 0, 0, tzinfo=UTC)
    at = first + timedelta(hours=5, seconds=90)
    assert to_run("0 * * * *", "UTC", Missed.SKIP, first=first, at=at) is None
    assert to_run("0 * * * *", "UTC", Missed.LATEST, first=first, at=at) == first + timedelta(hours=5)
    assert to_run("0 * * * *", "UTC", Missed.ALL, first=first, at=at) == first
    on_time = first + timedelta(hours=5, seconds=30)
    assert to_run("0 * * * *", "UTC", Missed.SKIP, first=first, at=on_time) == first + timedelta(hours=5)


def test_catching_up_is_bounded_also_after_years():
    first, at = datetime(2016, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    assert to_run("* * * * *", "UTC", Missed.ALL, first=first, at=at) == at - (MOST_CAUGHT_UP - 1) * MINUTE


@pytest.mark.parametrize(
    ("cron", "zone", "says"),
    [
        ("* * * *", "UTC", "write five fields"),
        ("0 * * * * *", "UTC", "write five fields"),
        ("@daily", "UTC", "write five fields"),
        ("61 * * * *", "UTC", "The minute of the cron expression '61 * * * *'"),
        ("0 0 31 2 *", "UTC", "The day-of-month"),
        ("* * */20 * 1L", "UTC", "does not come due in the next 50 years"),
        ("0 3 * * *", "Mars/Olympus", "no time zone 'Mars/Olympus'"),
        ("0 3 * * *", "../../etc/passwd", "no time zone"),
        ("0 3 * * *", "Europe", "no time zone"),
    ],
)
def test_what_cannot_come_due_is_refused_in_a_sentence(cron, zone, says):
    with pytest.raises(InvalidScheduleError, match=says.replace("*", r"\*")) as refused:
        check(cron, zone)
    assert str(refused.value).endswith(".")


@given(st.text(alphabet=st.sampled_from("0123456789*/,-#LW ² MONJAN"), max_size=40))
@settings(max_examples=500, deadline=None)
def test_any_text_is_accepted_or_refused_and_nothing_else(text):
    try:
        check(text, "Europe/Berlin")
    except InvalidScheduleError:
        return
    assert following(text, "Europe/Berlin", datetime(2026, 1, 1, tzinfo=UTC)).tzinfo is UTC
